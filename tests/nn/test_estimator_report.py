import pytest
import torch
from torch import nn

from aleator.nn import STS, BernoulliST, ConditionalLinear, GradientAudit, StochasticUnits, disarm, estimator_report
from aleator.nn.estimator_report import ESTIMATORS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def square(outputs, targets):
    return (outputs[:, 0] - targets).square()


def network(units=3, middle=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        middle = StochasticUnits(BernoulliST()) if middle is None else middle
        return nn.Sequential(nn.Linear(4, units), middle, nn.Tanh(), nn.Linear(units, 1)).double()


def report(model, examples=2, **options):
    inputs = torch.randn(examples, 4, generator=generator(1), dtype=torch.float64)
    return estimator_report(model, square, inputs, torch.ones(examples).double(), generator=generator(), **options)


def by_name(found):
    return {row.name: row for row in found.rows}


def test_every_estimator_has_its_row():
    found = report(network())
    rows = by_name(found)
    assert rows.keys() == ESTIMATORS.keys()
    assert (found.examples, found.units) == (2, 3)
    text = str(found)
    assert len(text.splitlines()) == 2 + len(ESTIMATORS)
    for line, name in zip(text.splitlines()[2:], ESTIMATORS, strict=True):
        assert line.startswith(name)
    assert "exact" in text


def test_unbiased_estimators_have_no_bias_and_biased_ones_have_theirs():
    rows = by_name(report(network()))
    for name in ("REINFORCE", "REINFORCE, best baseline", "RLOO, 2 samples", "ARM", "DisARM"):
        assert rows[name].bias < 1e-12
        assert rows[name].error == 0
        assert rows[name].cosine == pytest.approx(1)
    assert rows["straight-through, identity"].bias > 0.01
    assert rows["STS"].bias > rows["STS, rescaled"].bias > 1e-6
    assert rows["REINFORCE, best baseline"].deviation < rows["REINFORCE"].deviation
    assert rows["DisARM"].deviation < rows["ARM"].deviation
    assert rows["noisy rectifier"].bias is None


def test_one_example_is_audited_as_its_own_loss_of_the_gates():
    model = network()
    rows = by_name(report(model, 1))
    x = torch.randn(1, 4, generator=generator(1), dtype=torch.float64)
    audit = GradientAudit(BernoulliST("identity"), lambda h: square(model[2:](h), 1.0), model[0](x)[0]).exact()
    row = rows["straight-through, identity"]
    assert row.bias == pytest.approx(float(audit.bias.square().mean().sqrt()))
    assert row.deviation == pytest.approx(float(audit.variance.mean().sqrt()))


def test_many_units_are_sampled_and_compared_with_disarm():
    found = report(network(20), 1, samples=4000)
    rows = by_name(found)
    assert found.units == 20
    assert all(row.error > 0 for row in found.rows)
    assert rows["DisARM"].bias == 0
    assert rows["ARM"].bias < 5 * rows["ARM"].error
    assert rows["straight-through, identity"].bias > 20 * rows["straight-through, identity"].error
    assert disarm in ESTIMATORS.values()


def test_skipped_blocks_have_the_gradients_of_all():
    # As a layer that passes no gradient on to shut gates: the report must not inherit that.
    layers = [ConditionalLinear(48, 48, 5, gate=gate, block=16, generator=generator()) for gate in ("sts", "st")]
    found = []
    for layer in layers:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 48), layer, nn.Linear(48, 1)).double()
        found.append(by_name(report(model, 1))["straight-through, identity"])
    assert found[0] == found[1]


def test_the_module_is_left_as_it_was():
    model = network(middle=nn.Sequential(nn.Dropout(0.5), StochasticUnits(STS())))
    model[1][0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report(model)
    assert model.training
    assert not model[1][0].training
    assert model[1][1].estimator == STS()
    assert not model[1][1]._forward_hooks
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.plain
def test_modules_without_units_or_with_two_layers_are_refused():
    two = nn.Sequential(network()[1], network()[1])
    for model, count in ((nn.Identity(), 0), (network(middle=two), 2)):
        with pytest.raises(ValueError, match=f"module must have one layer of stochastic units, got {count}"):
            report(model)
    with pytest.raises(ValueError, match="inputs must have at least one example, got none"):
        report(network(), 0)
