"""Networks of protein-ligand complexes: their equations, padding, order, second order, and what is refused."""

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.utils._pytree import tree_map

from algorithms.test_battery import assert_same_gradient, meta_gradient
from metalit import Engine
from metalit.algorithms import FOMAML
from metalit.episode import Complexes, PaddedLabelled
from metalit.errors import SettingError
from metalit.functional.mixture_density import log_mixture_density
from metalit.networks import AffinityHead, DensityHead, ProteinLigandNetwork
from metalit.networks.complexes import DistancesOf
from metalit.networks.complexes.pairs import Pairs, bumps
from metalit.objectives import DistanceLikelihood, QueryLoss
from random_complexes import HEADS, complex_episode, complex_maml, more_padding, network, random_complexes
from random_graphs import permuted

BOTH = pytest.mark.parametrize("head", HEADS)
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def reordered(x):
    """The same complexes with residues, contacts, atoms and bonds in another order."""
    # an extra feature that numbers the nodes tells where each went
    numbers = torch.arange(6, dtype=x.distances.dtype).expand(*x.distances.shape[:-2], 6).unsqueeze(-1)
    moved, order = [], []
    for graphs, seed in ((x.pocket, 3), (x.ligand, 4)):
        new = permuted(graphs._replace(nodes=torch.cat([graphs.nodes, numbers], dim=-1)), seed)
        order.append(new.nodes[..., -1].long())
        moved.append(new._replace(nodes=new.nodes[..., :-1]))
    rows, columns = order[0].unsqueeze(-1).expand(-1, -1, 6), order[1].unsqueeze(-2).expand(-1, 6, -1)
    return Complexes(*moved, x.distances.gather(1, rows).gather(2, columns))


@BOTH
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_neither_padding_nor_order_changes_a_prediction(head, dtype):
    model, x = network(head, dtype), random_complexes(7, dtype=dtype)
    assert not torch.equal(reordered(x).distances, x.distances)
    for question in (lambda each: each, DistancesOf) if head == "density" else (lambda each: each,):
        expected = model(question(x))
        assert (expected.shape, expected.dtype) == ((7, 1), dtype)
        for same in (more_padding(x), reordered(x)):
            found = model(question(same))
            assert (found - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max().clamp(min=1)


@BOTH
def test_distances_and_both_graphs_matter(head):
    model, x = network(head), random_complexes(7)
    others = random_complexes(7, seed=5)
    changes = [x._replace(distances=x.distances * 0.9)]
    changes += [x._replace(pocket=x.pocket._replace(nodes=others.pocket.nodes * x.pocket.node_mask.unsqueeze(-1)))]
    changes += [x._replace(ligand=x.ligand._replace(nodes=others.ligand.nodes * x.ligand.node_mask.unsqueeze(-1)))]
    for other in changes:
        assert (model(other) - model(x)).abs().min() > 1e-9


def pairs(n=2, residues=3, atoms=4, inputs=6):
    torch.manual_seed(1)
    distances = 2 + 10 * torch.rand(n, residues, atoms, dtype=torch.float64)
    mask = torch.rand(n, residues, atoms) < 0.8
    return Pairs(torch.randn(n, residues, atoms, inputs, dtype=torch.float64), distances, mask)


def test_affinity_head_equals_its_equation_pair_by_pair():
    head, given = AffinityHead(6, 5, cutoff=8.0).double(), pairs()
    for one, found in enumerate(head(given)):
        z = torch.zeros(6, dtype=torch.float64)
        for v in range(3):
            for a in range(4):
                d = given.distances[one, v, a]
                if given.mask[one, v, a] and d < 8.0:
                    z = z + given.features[one, v, a] * head.filter(bumps(d, 8.0, 8)) / 100
        expected = 6.4 + 1.9 * head.out(head.hidden(z).relu())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_density_is_that_of_torchs_mixture():
    torch.manual_seed(0)
    x, logits, means, spreads = (torch.randn(5, *more, dtype=torch.float64) for more in ((), (3,), (3,), (3,)))
    expected = MixtureSameFamily(Categorical(logits=logits), Normal(means, spreads.exp())).log_prob(x)
    torch.testing.assert_close(log_mixture_density(x, logits, means, spreads.exp()), expected)


def test_density_head_sums_the_log_densities_of_close_pairs():
    head, given = DensityHead(6, 4, cutoff=7.0).double(), pairs()
    densities = head.log_densities(given)
    near = given.mask & (given.distances < 7.0)
    assert 0 < near.sum() < given.mask.sum()
    sums = torch.stack([densities[i][near[i]].sum() for i in range(2)])
    torch.testing.assert_close(head(given), 6.4 + 1.9 * head.scale(sums[:, None] / 100))
    means = torch.stack([densities[i][near[i]].mean() for i in range(2)])
    torch.testing.assert_close(head.log_likelihood(given), means[:, None])


def test_a_complex_without_a_close_pair_has_a_finite_prediction():
    for head in HEADS:
        x = random_complexes(2)
        found = network(head)(x._replace(distances=x.distances + 50))
        assert found.isfinite().all()


@BOTH
def test_vmap_equals_loop_in_second_order(head):
    episode = complex_episode()
    loop, by_vmap = (complex_maml(head, Engine(mapping=mapping)) for mapping in ("loop", "vmap"))
    expected = meta_gradient(loop, episode)
    assert_same_gradient(meta_gradient(by_vmap, episode), expected, 1e-10)
    first = meta_gradient(complex_maml(head, method=FOMAML), episode)
    with pytest.raises(AssertionError):
        assert_same_gradient(expected, first, tolerance=1e-3)


def test_objective_adds_the_negative_log_likelihood_of_query_distances():
    episode, weight = complex_episode(), 0.3
    learner = complex_maml("density", objective=DistanceLikelihood(weight))
    plain = complex_maml("density", objective=QueryLoss())
    nll = []
    for task in range(3):
        support, query = tree_map(lambda leaf, task=task: leaf[task], (episode.support, episode.query))
        meta = plain.tensors()
        adapted = plain.learn(meta, support, ways=0)
        nll.append(-plain.predict(meta, adapted, DistancesOf(query.x)).mean())
    expected = plain.meta_loss(episode) + weight * torch.stack(nll).mean()
    torch.testing.assert_close(learner.meta_loss(episode), expected)
    torch.testing.assert_close(
        complex_maml("density", objective=DistanceLikelihood(0)).meta_loss(episode), plain.meta_loss(episode)
    )


def test_objective_leaves_out_padded_queries():
    episode = complex_episode()
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 4])
    padded = episode._replace(query=PaddedLabelled(episode.query.x, episode.query.y, mask))
    other = random_complexes(3, 4, seed=9)
    changed = episode.query.x._replace(
        distances=episode.query.x.distances.where(mask[..., None, None], other.distances)
    )
    learner = complex_maml("density", objective=DistanceLikelihood(1.0))
    same = learner.meta_loss(padded._replace(query=padded.query._replace(x=changed)))
    torch.testing.assert_close(learner.meta_loss(padded), same)
    assert not torch.isclose(learner.meta_loss(episode), same)


@pytest.mark.parametrize("name", ["residue_inputs", "contact_inputs", "atom_inputs", "bond_inputs"])
def test_other_features_than_the_networks_are_refused_by_name(name):
    sizes = {"residue_inputs": 5, "contact_inputs": 3, "atom_inputs": 5, "bond_inputs": 3}
    model = ProteinLigandNetwork(AffinityHead(), **(sizes | {name: 7}))
    with pytest.raises(SettingError) as caught:
        model(random_complexes(2, dtype=torch.float32))
    assert (caught.value.name, caught.value.value) == (name, 7)


def test_what_is_refused():
    with pytest.raises(SettingError, match="DensityHead"):
        network("affinity")(DistancesOf(random_complexes(2)))
    with pytest.raises(SettingError, match="ProteinLigandNetwork"):
        network("affinity")(torch.zeros(2, 3))
    for wrong in ({"cutoff": 0.0}, {"spread": -1.0}, {"gaussians": 0}):
        with pytest.raises(SettingError):
            DensityHead(**wrong)
