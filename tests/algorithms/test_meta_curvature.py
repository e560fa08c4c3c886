"""Meta-Curvature (Park and Oliva 2019, https://arxiv.org/abs/1902.03356), after the authors' code:
https://github.com/silverbottlep/maml/blob/e9ce6546bbf2f10a29d699f0302594829a277251/maml.py#L98-L118
"""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import Labelled
from metalit.algorithms import MAML, MetaCurvature
from metalit.networks import MLP, Classifier, Conv4
from metalit.update_rules import Curvature
from metalit.update_rules.curvature import transformed


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("domain", ["sinusoid", "glyphs"])
def test_identities_are_maml(domain, shared):
    def network():
        torch.manual_seed(1)
        return MLP(hidden=(10,)) if domain == "sinusoid" else Classifier(Conv4(channels=4), ways=3)

    settings, episode = {"inner_lr": 0.05, "inner_steps": 2}, double(domain)
    expected = meta_gradient(MAML(network(), **settings).double(), episode)
    found = meta_gradient(MetaCurvature(network(), shared=shared, **settings).double(), episode)
    gradient = {name: found[1][name] for name in expected[1]}
    assert_same_gradient((found[0], gradient), expected, tolerance=1e-12)


@pytest.mark.parametrize("shape", [(3, 2, 2, 3), (4, 3, 5), (4, 3)])
def test_mode_products_are_one_kronecker_product(shape):
    """vec(MC(G)) = (M_out kron M_in kron M_filter) vec(G)."""
    torch.manual_seed(0)
    gradient = torch.randn(shape, dtype=torch.float64)
    matrices = (
        [torch.randn(n, n, dtype=torch.float64) for n in gradient.flatten(2).shape]
        if len(shape) > 2
        else [torch.randn(n, n, dtype=torch.float64) for n in shape]
    )
    kronecker = matrices[0]
    for matrix in matrices[1:]:
        kronecker = torch.kron(kronecker, matrix)
    found = transformed(gradient, matrices)
    torch.testing.assert_close(found.flatten(), kronecker @ gradient.flatten(), rtol=1e-10, atol=1e-10)
    if len(shape) == 2:
        torch.testing.assert_close(found, matrices[0] @ gradient @ matrices[1].T, rtol=1e-10, atol=1e-10)


def test_rule_applies_each_table_to_its_parameters():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4)).double()
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    rule = Curvature(parameters, lr=0.1, sets=2)
    for learned in rule.parameters():
        nn.init.normal_(learned)
    gradient = {name: torch.randn_like(value) for name, value in parameters.items()}
    tables = [{name: table()[name][1] for name in table.names} for table in (rule.output, rule.input, rule.filter)]
    factors = rule.factors()
    for state in (1, 5):  # beyond the sets the last one counts
        updated, after = rule(gradient, state, parameters, torch.zeros(()))
        assert after == state + 1
        out, into, places = (table["0.weight"] for table in tables if "0.weight" in table)
        by_hand = torch.einsum("ab,cd,ef,bdf->ace", out, into, places, gradient["0.weight"].flatten(2))
        expected = {
            "0.weight": by_hand.reshape(3, 2, 2, 2),
            "3.weight": tables[0]["3.weight"] @ gradient["3.weight"] @ tables[1]["3.weight"].T,
            **{name: factors[name][1] * gradient[name] for name in ("0.bias", "1.weight", "1.bias", "3.bias")},
        }
        for name, direction in expected.items():
            torch.testing.assert_close(updated[name], parameters[name] - 0.1 * direction)


def test_gradient_of_the_matrices_in_closed_form():
    """One step on a linear model: d L_Q(theta - a M_out G M_in') / d M_in = -a (M_out' grad L_Q)' ... at M = I."""
    torch.manual_seed(0)
    support, query = (Labelled(torch.randn(1, 7, 3).double(), torch.randn(1, 7, 2).double()) for _ in range(2))
    network = nn.Linear(3, 2, bias=False).double()
    learner = MetaCurvature(network, inner_lr=0.1)
    learner.meta_loss(type(double("sinusoid"))(support, query, torch.arange(1))).backward()

    def gradient(theta, examples):
        residual = examples.x[0] @ theta.T - examples.y[0]
        return 2 * residual.T @ examples.x[0] / residual.numel()

    theta = network.weight.detach()
    inner = gradient(theta, support)
    outer = gradient(theta - 0.1 * inner, query)
    (out,), (into,) = learner.update_rule.output.parameters(), learner.update_rule.input.parameters()
    torch.testing.assert_close(out.grad[0], -0.1 * outer @ inner.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(into.grad[0], -0.1 * outer.T @ inner, rtol=1e-12, atol=1e-12)


def test_steps_with_matrices_of_their_own_learn_different_ones():
    def trained(shared):
        torch.manual_seed(0)
        learner = MetaCurvature(MLP(hidden=(8,)), inner_lr=0.05, inner_steps=2, shared=shared).double()
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            learner.meta_loss(double("sinusoid")).backward()
            optimizer.step()
        return learner

    shared, own = trained(True), trained(False)
    first, second = own.update_rule.output()["layers.2.weight"]
    assert not torch.allclose(first, second)
    assert shared.update_rule.output()["layers.2.weight"].shape[0] == 1
    one, other = (learner.eval()(double("sinusoid")).loss for learner in (shared, own))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(("settings", "message"), [({"inner_lr": 0}, "inner_lr is 0"), ({"inner_steps": -1}, "is -1")])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MetaCurvature(MLP(), shared=False, **settings)
