import copy

import pytest
import torch

from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes.gates import Gates
from aleator.recipes.gates.models import bound_norms
from aleator.recipes.parts.task import SupervisedTask

QUIET = RunOptions(trackers=(), log_every=1)
RANDOM = ("st", "st-identity", "relaxed", "reinmax", "sts", "sbn", "noisy-relu")
GATED = (*RANDOM, "relu")


def task(seed: int = 0, **options) -> SupervisedTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return Gates(**options).task(streams, make_accelerator())


def trained(steps: int, **options) -> SupervisedTask:
    built = task(**options)
    batches = built.train_batches()
    for _ in range(steps):
        built.train_step(next(batches))
    return built


def parameters(of: SupervisedTask) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in of.model.named_parameters()}


# --- the network


def test_networks_have_the_size_they_should_have():
    def size(**options):
        return sum(p.numel() for p in task(**options).model.parameters())

    experts, gater, head = 65 * 200, 65 * 40 + 41 * 200, 201 * 10
    assert size() == experts + gater + head
    assert size(block=20) == experts + 65 * 40 + 41 * 10 + head
    assert size(gate="none") == experts + head
    assert size(gate="dense") == 65 * 20 + 65 * 40 + 41 * 20 + 21 * 10
    assert size(gate="dense", sparsity=0.001) == 65 + 65 * 40 + 41 + 2 * 10


def test_without_gates_the_network_is_affine():
    model = task(gate="none", precision="float64").model
    x, y = torch.randn(2, 5, 64, dtype=torch.float64, generator=Streams(0).generator("x"))
    assert torch.allclose(model(2 * x - y), 2 * model(x) - model(y), rtol=1e-9, atol=1e-12)


def test_dense_network_is_the_formula():
    model = task(gate="dense", precision="float64").model
    x = torch.randn(5, 64, dtype=torch.float64, generator=Streams(0).generator("x"))
    narrow, wide, experts, head = model.layer.gater[0], model.layer.gater[2], model.layer.experts, model.head
    gates = ((x @ narrow.weight.T).tanh() @ wide.weight.T).sigmoid()
    assert torch.allclose(model(x), (gates * (x @ experts.weight.T)) @ head.weight.T, rtol=1e-12)


def test_gates_that_differ_in_their_gradient_alone_start_from_the_same_network_and_noise():
    tasks = [task(gate=gate, precision="float64") for gate in ("st", "reinmax", "sbn", "relaxed")]
    batches = [next(built.train_batches()) for built in tasks]
    found = [built.train_step(batch).metrics for built, batch in zip(tasks, batches, strict=True)]
    for other in found[1:]:
        assert float(other["loss"]) == pytest.approx(float(found[0]["loss"]), rel=1e-12)
        assert other["active_fraction"] == found[0]["active_fraction"]


# --- a step


@pytest.mark.parametrize("gate", [*GATED, "dense"])
def test_every_part_of_the_network_learns(gate):
    before, after = parameters(task(gate=gate)), parameters(trained(3, gate=gate))
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_gater_steps_by_its_own_learning_rate():
    def change(ratio):
        options = {"gater_lr_ratio": ratio, "max_norm": None, "precision": "float64"}
        before, after = parameters(task(**options)), parameters(trained(1, **options))
        return {name: after[name] - before[name] for name in before}

    whole, half, none = change(1.0), change(0.5), change(0.0)
    for name, step in whole.items():
        ratio = 0.5 if ".gater." in name else 1.0
        assert torch.allclose(half[name], ratio * step, rtol=1e-9, atol=1e-15), name
        assert bool((none[name] == 0).all()) == (".gater." in name)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "lars", "signum", "spectra-adamw", "spectra-ademamix"])
def test_gater_has_its_own_learning_rate_with_every_optimizer(optimizer):
    built = task(optimizer=optimizer, gater_lr_ratio=0.5, lr=0.25, schedule="linear")
    rates = {id(p): group["lr"] for group in built.optimizer.param_groups for p in group["params"]}
    rates = {name: rates[id(parameter)] for name, parameter in built.model.named_parameters()}
    built.train_step(next(built.train_batches()))
    assert all(lr == (0.125 if ".gater." in name else 0.25) for name, lr in rates.items())


def test_no_unit_has_larger_weights_than_the_bound_after_a_step():
    norms = [p.norm(dim=1).max() for p in parameters(trained(20, max_norm=0.5)).values() if p.ndim == 2]
    assert max(norms) <= 0.5 * (1 + 1e-6)
    assert max(norms) > 0.499


def test_bound_leaves_the_directions_of_weights_and_what_is_within_it():
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2)
    layer.weight.data = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    bound_norms(layer, 2.0)
    assert torch.allclose(layer.weight, torch.tensor([[1.2, 1.6], [0.3, 0.4]]), rtol=1e-6)


def test_momentum_of_sgd_is_zero_unless_it_is_given():
    assert task().optimizer.param_groups[0]["momentum"] == 0
    assert task(momentum=0.5).optimizer.param_groups[0]["momentum"] == 0.5


# --- evaluation


@pytest.mark.parametrize("gate", ["st", "sts", "sbn", "relu"])
def test_threshold_opens_the_share_wanted_on_validation_data(gate):
    built = trained(60, gate=gate, sparsity=0.2)
    measured = built.evaluate("validation")
    # A quantile of 143 · 200 logits.
    assert measured["active_fraction"] == pytest.approx(0.2, abs=1e-4)
    assert 0.15 < built.evaluate("test")["active_fraction"] < 0.25


def test_evaluation_is_deterministic_and_does_not_change_training():
    one, other = (task(gate="sbn") for _ in range(2))
    assert one.evaluate("test") == one.evaluate("test")
    for built in (one, other):
        batches = built.train_batches()
        for _ in range(3):
            built.train_step(next(batches))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


def test_figures_are_those_of_the_network_by_hand():
    built = trained(40, gate="st", precision="float64")
    measured = built.evaluate("test")
    layer, head = built.model.layer, built.model.head
    x = built.options.images.normalise(built.held_out["test"].inputs, torch.float64).flatten(1)
    validation = built.options.images.normalise(built.held_out["validation"].inputs, torch.float64).flatten(1)
    threshold = torch.quantile(layer.gater(validation).flatten(), 0.9)
    logits = layer.gater(x)
    gates = (logits > threshold).double()
    right = head(gates * (x @ layer.weight.T + layer.bias)).argmax(1) == built.held_out["test"].targets
    assert measured["accuracy"] == float(right.double().mean())
    assert measured["error"] == pytest.approx(1 - measured["accuracy"])
    assert measured["active_fraction"] == pytest.approx(float(gates.mean()), abs=1e-4)
    assert measured["likely_fraction"] == pytest.approx(float((logits > 0).double().mean()), abs=1e-4)


def test_active_fraction_of_what_has_no_gates_is_its_share_of_the_experts():
    assert task(gate="none").evaluate("test")["active_fraction"] == 1
    assert task(gate="dense", sparsity=0.25).evaluate("test")["active_fraction"] == 0.25


# --- the recipe end to end


@pytest.mark.parametrize("gate", [*GATED, "none", "dense"])
def test_recipe_learns_digits_with_every_gate(gate, tmp_path):
    found = run(Gates(gate=gate, rounds=10), tmp_path / "run", QUIET, name="gates")["test"]
    assert found["accuracy"] > 0.8
    assert found["active_fraction"] == 1 if gate == "none" else found["active_fraction"] < 0.13


def test_recipe_learns_with_blocks_that_are_skipped(tmp_path):
    options = Gates(gate="st", experts=320, block=16, penalty=0.1, rounds=10)
    found = run(options, tmp_path / "run", QUIET, name="gates")["test"]
    assert found["accuracy"] > 0.8


def test_step_reports_what_the_gates_do(tmp_path):
    run(Gates(gate="relu", rounds=1, train_size=96), tmp_path / "run", QUIET, name="gates")
    rows = [row["metrics"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert len(rows) == 3
    assert {"loss", "lr", "active_fraction", "penalty_weight"} <= rows[0].keys()
    # Too many rectifiers are open at first, so their penalty grows by a tenth in every step.
    assert rows[1]["penalty_weight"] == pytest.approx(1.1 * rows[0]["penalty_weight"])


def test_noise_goes_on_where_it_was_saved():
    streams = Streams(0)
    with streams.scope("init"):
        built = Gates(gate="sts").task(streams, make_accelerator())
    batch = next(built.train_batches())
    built.train_step(batch)
    saved = copy.deepcopy({"streams": streams.state_dict(), "task": built.state_dict()})
    after = []
    for _ in range(2):
        built.train_step(batch)
        after.append(parameters(built))
        built.load_state_dict(saved["task"])
        streams.load_state_dict(saved["streams"])
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_mnist_has_the_paper_s_network(mirror):
    built = task(data="mnist", experts=2000, gater_hidden=400, train_size=64, validation_size=10, test_size=10)
    assert sum(p.numel() for p in built.model.parameters()) == 785 * 2000 + 785 * 400 + 401 * 2000 + 2001 * 10
    assert float(built.train_step(next(built.train_batches())).metrics["loss"]) > 0


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sparsity", "0"), "sparsity must be in (0, 1), got 0.0"),
        (("--sparsity", "1"), "sparsity must be in (0, 1), got 1.0"),
        (("--block", "3"), "block must divide experts, 200, got 3"),
        (("--experts", "0"), "experts must be positive and finite, got 0"),
        (("--penalty", "-1"), "penalty must be finite and not negative, got -1.0"),
        (("--gater-lr-ratio", "-1"), "gater_lr_ratio must be finite and not negative, got -1.0"),
        (("--max-norm", "0"), "max_norm must be positive and finite, got 0.0"),
        (("--accumulate", "2"), "accumulate must be 1 in the recipe gates, got 2"),
        (("--shard",), "shard must be False in the recipe gates, got True"),
        (("--batch-size", "5000"), "batch_size must be at most 1294"),
        (("--validation-size", "0"), "validation_size must be positive and finite, got 0"),
        (("--gate", "str"), "--gate must be one of st, st-identity, relaxed, reinmax, sts, sbn"),
    ],
)
def test_bad_options_are_named(words, message, tmp_path, capsys):
    assert main(["run", "gates", *words, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
