import math
import os

import numpy as np
import pytest
import torch
from sklearn.base import clone

from aleator import load_run
from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.random import Streams
from aleator.recipes.spiking import Spiking
from aleator.recipes.spiking.references import SpikingReference, _Spike

pytestmark = pytest.mark.usefixtures("compiled_kernels")
SMALL = ("--hidden", "30", "--train-size", "250", "--test-size", "100")
QUIET = RunOptions(trackers=(), log_every=1)


def task(seed: int = 0, **options):
    streams = Streams(seed)
    with streams.scope("init"):
        return Spiking(**options).task(streams, make_accelerator())


# --- the task


def test_digits_are_enlarged_and_have_grey_levels():
    greys, labels = task().examples["train"]
    assert greys.shape == (1294, 576)
    assert greys.dtype == torch.uint8
    assert greys.max() == 255
    image = greys[0].reshape(24, 24)
    assert torch.equal(image, image[::3, ::3].repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert len(labels) == 1294


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "hao2019-mnist-100"),
        ({"hidden": 500}, "hao2019-mnist-400"),
        ({"hidden": 3000}, "hao2019-mnist-1600"),
        ({"data": "fashion-mnist"}, "hao2019-fashion-400"),
        ({"data": "fashion-mnist", "hidden": 6400}, "hao2019-fashion-6400"),
        ({"preset": "hao2019-mnist-6400"}, "hao2019-mnist-6400"),
    ],
    ids=str,
)
def test_preset_is_that_of_the_data_and_the_nearest_size(options, name):
    assert Spiking(**options).preset_name == name


@pytest.mark.parametrize("engine", [{}, *({"engine": name, "batch_size": 16} for name in ("private", "frozen"))])
def test_spikes_learn_digits(engine, tmp_path):
    options = Spiking(hidden=30, train_size=150, test_size=48, validation_size=10, **engine)
    result = run(options, tmp_path / "run", QUIET, name="spiking")
    assert result["examples"] == 150
    assert result["test"]["accuracy"] > 0.4  # a constant is right for a tenth
    assert result["test"]["accuracy"] == result["test"]["sl_accuracy"]


@pytest.mark.parametrize("model", ["mlp", "surrogate-snn"])
def test_references_learn_digits(model, tmp_path):
    result = run(Spiking(model=model, hidden=30, epochs=4), tmp_path / "run", QUIET, name="spiking")
    assert result["test"]["accuracy"] > 0.85


def test_surrogate_network_spikes_by_its_formula_and_has_the_surrogates_gradient():
    with Streams(0).scope("init"):
        network = SpikingReference(2, 1, 1).double()
    with torch.no_grad():
        network.hidden.weight.copy_(torch.tensor([[0.6, 0.0]]))
        network.hidden.bias.zero_()
        network.readout.weight.fill_(1.0)
        network.readout.bias.zero_()
    voltage, spike, output, total = 0.0, 0.0, 0.0, 0.0
    for _ in range(20):
        voltage = 0.9 * voltage + 0.6 - spike
        spike = float(voltage > 1)
        output = 0.9 * output + spike
        total += output
    scores = network(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert scores.item() == pytest.approx(total / 20, rel=1e-12)
    voltages = torch.tensor([0.0, 0.9, 1.5], requires_grad=True)
    _Spike.apply(voltages).sum().backward()
    torch.testing.assert_close(voltages.grad, torch.tensor([1 / 11**2, 1 / 2**2, 1 / 6**2]))
    scores.sum().backward()
    assert network.hidden.weight.grad[0, 0] != 0  # the step function itself has no gradient
    assert network.hidden.weight.grad[0, 1] == 0  # nothing came in there


def test_layerwise_learns_the_hidden_layer_first_and_then_the_class_cells():
    built = task(hidden=30, train_size=200, schedule="layerwise")
    assert built.budget.total == 400
    fresh = built.classifier.state_.clone()
    batches = built.train_batches()
    for _ in range(2):
        built.train_step(next(batches))
    half = built.classifier.state_.clone()
    assert not torch.equal(half.weights_in, fresh.weights_in)
    assert torch.equal(half.weights_out, fresh.weights_out)
    for _ in range(2):
        built.train_step(next(batches))
    whole = built.classifier.state_
    assert torch.equal(whole.theta, half.theta)
    assert not torch.equal(whole.weights_out, half.weights_out)
    assert built.classifier.samples_seen_ == 400
    fitted = clone(built.classifier).fit(*built.examples["train"]).state_
    assert all(torch.equal(value, getattr(whole, name)) for name, value in fitted.state_dict().items())


def test_thresholds_decay_or_never_do():
    thetas = {}
    for decay in ("exact", "none"):
        built = task(hidden=30, theta_decay=decay)
        built.train_step(slice(0, 2))
        thetas[decay] = built.classifier.state_.theta
        assert (built.classifier.constants.tau_theta == math.inf) == (decay == "none")
    assert thetas["none"].min() >= 20
    assert thetas["exact"].min() < 20  # of cells that did not win


def test_readout_decides_which_accuracy_is_the_headline():
    metrics = {}
    for readout in ("sl", "assignment"):
        built = task(hidden=30, train_size=250, test_size=100, readout=readout)
        built.train_step(slice(0, 250))
        metrics[readout] = built.evaluate("test")
        assert metrics[readout]["accuracy"] == metrics[readout][f"{readout}_accuracy"]
    assert metrics["sl"]["sl_accuracy"] == metrics["assignment"]["sl_accuracy"]


def test_threads_of_an_evaluation_change_nothing(tmp_path):
    results = [
        run(
            Spiking(hidden=30, train_size=20, test_size=9, validation_size=10),
            tmp_path / str(threads),
            RunOptions(trackers=(), threads=threads),
            name="spiking",
        )
        for threads in (1, min(2, os.cpu_count() or 1))
    ]
    assert results[0]["test"] == results[1]["test"]


# --- what is shown, saved and loaded


def test_report_shows_fields_spikes_answers_and_maps(tmp_path):
    assert main(["run", "spiking", *SMALL, "--trackers", "--out", str(tmp_path / "run")]) == 0
    shown = {exhibit["heading"]: exhibit for exhibit in read_json(tmp_path / "run" / "exhibits.json")["exhibits"]}
    assert list(shown) == [
        "Accuracy against samples seen",
        "What 30 hidden cells answer to",
        "Spikes while the first test images are shown",
        "Answers, class by class",
        "Map of 100 test images by their hidden cells",
        "Map of 100 test images by their class cells",
        "Map of 100 test images by their pixels",
    ]
    counts = np.array(shown["Answers, class by class"]["plot"]["data"][0]["text"])
    test = read_json(tmp_path / "run" / "result.json")["test"]
    assert counts.sum() == 100
    assert counts.trace() / 100 == pytest.approx(test["accuracy"])
    assert sum(len(trace["x"]) for trace in shown["Map of 100 test images by their pixels"]["plot"]["data"]) == 100
    growth = shown["Accuracy against samples seen"]["plot"]["data"][0]
    assert growth["x"][-1] == 250
    assert "What was learned" in (tmp_path / "run" / "report.html").read_text()


def test_run_that_is_loaded_answers_as_it_did(tmp_path):
    out = tmp_path / "run"
    assert main(["run", "spiking", *SMALL, "--trackers", "--out", str(out)]) == 0
    loaded = load_run(out)
    assert loaded.task.evaluate("test") == loaded.result["test"]


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hidden", "0"), "hidden must be at least 2, got 0"),
        (("--epochs", "0"), "epochs must be at least 1, got 0"),
        (("--batch-size", "0"), "batch_size must be at least 1, got 0"),
        (("--lr", "-1"), "lr must be positive and finite, got -1.0"),
        (("--lr", "0.01"), "lr cannot be used with model stdp, got 0.01"),
        (("--batch-size", "8"), "batch_size cannot be used with engine event, got 8"),
        (("--batch-size", "8", "--engine", "dense"), "batch_size cannot be used with engine dense, got 8"),
        (("--preset", "hao"), "preset must be one of hao2019-mnist-100"),
        (("--model", "mlp", "--engine", "frozen"), "engine must be event with model mlp, got frozen"),
        (("--model", "mlp", "--readout", "assignment"), "readout must be sl with model mlp, got assignment"),
        (("--model", "mlp", "--without", "symmetry"), "without must be nothing with model mlp, got symmetry"),
        (
            ("--theta-decay", "none", "--without", "adaptive_threshold"),
            "theta_decay must be exact without adaptive_threshold, which never decays, got none",
        ),
        (("--model", "mlp", "--theta-decay", "none"), "theta_decay must be exact with model mlp, got none"),
        (
            ("--engine", "evnt"),
            "--engine must be one of event, dense, private, frozen, got 'evnt'; did you mean 'event'?",
        ),
        (("--data", "cifar10"), "--data must be one of digits, mnist, fashion-mnist, got 'cifar10'"),
        (("--train-size", "5000"), "train_size must be at most 1294 for digits, got 5000"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_bad_options_are_named(words, message, tmp_path, capsys):
    assert main(["run", "spiking", *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
