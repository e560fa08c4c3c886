"""Random complexes of a pocket and a ligand, and episodes of them, for tests."""

import torch
import torch.nn.functional as F

from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.episode import Complexes
from metalit.networks import AffinityHead, DensityHead, ProteinLigandNetwork
from random_graphs import EDGE_LENGTH, NODE_LENGTH, random_graphs, wider
from random_texts import shaken

HEADS = {"affinity": lambda: AffinityHead(6, 5), "density": lambda: DensityHead(6, 4)}


def random_complexes(*shape, seed=0, dtype=torch.float64):
    """Complexes ``[*shape]`` of at most 6 residues and 6 atoms, 2 to 9 Å apart."""
    pocket, ligand = (random_graphs(*shape, seed=2 * seed + side, dtype=dtype) for side in (0, 1))
    both = pocket.node_mask.unsqueeze(-1) & ligand.node_mask.unsqueeze(-2)
    generator = torch.Generator().manual_seed(seed)
    distances = 2 + 7 * torch.rand(both.shape, generator=generator, dtype=dtype)
    return Complexes(pocket, ligand, distances * both)


def more_padding(x):
    """The same complexes with more padding."""
    pocket, ligand = wider(x.pocket), wider(x.ligand, nodes=11, edges=12)
    more = ligand.node_mask.shape[-1] - x.distances.shape[-1], pocket.node_mask.shape[-1] - x.distances.shape[-2]
    return Complexes(pocket, ligand, F.pad(x.distances, (0, more[0], 0, more[1])))


def network(head="affinity", dtype=torch.float64):
    torch.manual_seed(0)
    sizes = {"contact_inputs": EDGE_LENGTH, "bond_inputs": EDGE_LENGTH, "width": 8, "layers": 2}
    made = ProteinLigandNetwork(HEADS[head](), residue_inputs=NODE_LENGTH, atom_inputs=NODE_LENGTH, **sizes)
    return shaken(made, by=0.1).to(dtype)


def complex_episode(tasks=3):
    """Tasks of 3 support and 4 query complexes."""

    def examples(seed, n):
        generator = torch.Generator().manual_seed(seed)
        y = 6.4 + 1.9 * torch.randn(tasks, n, 1, generator=generator, dtype=torch.float64)
        return Labelled(random_complexes(tasks, n, seed=seed), y)

    return Episode(examples(1, 3), examples(2, 4), torch.arange(tasks))


def complex_maml(head="affinity", engine=None, method=MAML, **settings):
    """A MAML, of second order if not another, that adapts all parameters, in float64."""
    return method(network(head), inner_lr=0.01, inner_steps=2, engine=engine or Engine(), **settings).double()
