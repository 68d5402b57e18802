"""The recipe ``pairs``: its problems, its baselines, a run that is cut, two processes, and what is refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from aleator import load_run
from aleator.cli import main
from aleator.experiment import RunOptions
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.random import Streams
from aleator.recipes.pairs import Pairs, digits_of_pi
from aleator.recipes.pairs.laplace import LastLayerLaplace
from aleator.recipes.pairs.measures import Predictions, abstention
from aleator.recipes.pairs.task import ClassPairTask, PairTask

QUIET = RunOptions(trackers=(), log_every=1)
NAME = "pairs"


def task(seed: int = 0, **options) -> PairTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return Pairs(**options).task(streams, make_accelerator())


def trained(steps: int, **options) -> PairTask:
    built = task(steps=steps, **options)
    batches = built.train_batches()
    with Streams(0).scope("step"):  # as the run loop does, for dropout
        for _ in range(steps):
            built.train_step(next(batches))
    return built


def evaluated(built: PairTask, split: str) -> dict[str, float]:
    with torch.no_grad():
        return built.evaluate(split)


# --- the problems


def test_digits_of_pi_are_those_of_pi():
    found = digits_of_pi.digits()
    assert "".join(map(str, found[:20])) == "31415926535897932384"
    assert len(found) == 1000
    assert found[762:768] == [9] * 6  # the Feynman point: decimals 762 to 767


def test_every_digit_has_statements_that_are_true_and_sum_to_one():
    p = digits_of_pi.probabilities()
    assert p.shape == (1000, 54)
    assert torch.allclose(p.sum(1), torch.ones(1000).double())
    said = {" ".join(s.words) for s in digits_of_pi.statements() if 3 in s.true_of}
    assert len(said) == 10
    assert {"it is 3", "sure , it is spelled t h r e e", "it is odd", "it has 5 letters", "it is prime"} <= said
    assert float(digits_of_pi.frequencies().sum()) == pytest.approx(1)


def test_half_the_line_cannot_be_learned():
    part = task().problem.held_out["test"]
    right = part.inputs > 0
    assert set(part.p_true[right, 1].mul(10).round().long().tolist()) == {1, 9}
    assert float((part.p_true[right, 1] - 0.5).square().mean()) == pytest.approx(0.16)
    assert part.p_true[~right, 1].unique().numel() > 1000
    assert abs(float(part.y1.double().mean() - part.p_true[:, 1].mean())) < 4 * 0.5 / 4000**0.5


def test_baselines_see_the_same_batches_and_as_many_labels():
    one, other = (next(task(method=method).train_batches()) for method in ("pair", "ensemble"))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    alone = task(method="single", responses=1, train_size=8000).train_batches()
    x, y1, y2 = next(alone)
    assert torch.equal(y1, y2)
    assert len(x) == 256


def test_batches_of_a_step_are_the_same_wherever_it_begins():
    for data in ("half-line", "digits-of-pi"):
        problem = task(data=data).problem
        batches = problem.batches(0)
        third = [next(batches) for _ in range(17)][-1]
        assert all(torch.equal(a, b) for a, b in zip(next(problem.batches(16)), third, strict=True))


@pytest.mark.usefixtures("mirror")
def test_images_are_split_by_image():
    problem = task(data="cifar10h", train_size=200, batch_size=32).problem
    held_out = [problem.held_out[name].counts for name in ("validation", "calibration", "test")]
    assert [len(counts) for counts in held_out] == [1000, 1000, 2000]
    assert len(problem.inputs) == 200
    other = task(seed=1, data="cifar10h", train_size=200, batch_size=32).problem
    assert torch.equal(other.held_out["test"].inputs, problem.held_out["test"].inputs)
    assert torch.equal(other.inputs, problem.inputs)


# --- methods


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"head": "mixture", "components": 4},
        {"head": "autoregressive"},
        {"method": "ensemble", "members": 3},
        {"method": "dropout", "members": 4},
        {"method": "laplace", "members": 8},
        {"method": "single"},
        {"data": "digits-of-pi"},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "table",
)
def test_every_method_learns_and_says_what_it_does_not_know(options):
    built = trained(20, **options)
    metrics = evaluated(built, "test")
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert metrics["squared_error"] > 0
    if options.get("method") == "single":
        assert metrics["variance"] == 0
        assert metrics["ece2"] == pytest.approx(metrics["squared_error"], rel=1e-6)
    assert len(built.exhibits()) >= 3
    first = evaluated(task(**options, steps=20), "validation")
    assert evaluated(built, "validation")["nll"] < first["nll"]


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("options", [{}, {"method": "ensemble", "members": 2}], ids=["table", "ensemble"])
def test_images_are_judged_and_drawn(options):
    built = trained(2, data="cifar10h", train_size=64, batch_size=32, **options)
    metrics = evaluated(built, "test")
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert 0 < metrics["hallucination"] < 1  # answers that nobody gave
    drawn = built.exhibits()
    assert [exhibit.heading for exhibit in drawn[2:]] == ["Variance of all labels together", "Whom to answer"]
    for exhibit in drawn:
        for trace in exhibit.plot["data"]:
            assert len(trace["x"]) == len(trace["y"]) > 1
            assert all(math.isfinite(value) for value in (*trace["x"], *trace["y"])), exhibit.heading


def test_pairs_find_the_half_that_cannot_be_learned():
    """150 steps instead of 1,500: the right half claims most of its error, an ensemble almost nothing."""
    pair = evaluated(trained(150, lr=3e-3), "test")
    assert pair["variance_right"] > 0.1
    assert pair["variance_left"] < 0.05
    ensemble = evaluated(trained(150, lr=3e-3, method="ensemble", members=2), "test")
    assert ensemble["variance_right"] < 0.02
    assert pair["ece2"] < 0.5 * ensemble["ece2"]
    for beta in ("0.5", "0.2", "0.05"):
        assert pair[f"violated_{beta}"] <= float(beta)


def test_evaluations_are_the_same_again_and_train_nothing():
    built = trained(3, method="dropout", members=3)
    before = [parameter.clone() for parameter in built.model.parameters()]
    assert evaluated(built, "test") == evaluated(built, "test")
    assert all(torch.equal(a, b) for a, b in zip(before, built.model.parameters(), strict=True))


def test_the_weights_with_the_lowest_validation_loss_are_tested():
    built = trained(5)
    good = evaluated(built, "validation")["loss"]
    kept = [parameter.detach().clone() for parameter in built.model.parameters()]
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.add_(1.0)
    assert evaluated(built, "validation")["loss"] > good
    evaluated(built, "test")
    assert all(torch.equal(a, b) for a, b in zip(kept, built.model.parameters(), strict=True))


def test_members_of_an_ensemble_train_as_if_each_were_alone():
    """A member's gradient is its own divided by their number, of whose scale AdamW makes nothing."""
    built = task(method="ensemble", members=2, precision="float64", weight_decay=0.0)
    batch = next(built.train_batches())
    member = built.model.members[0]
    before = [parameter.detach().clone() for parameter in member.parameters()]
    alone = sum(F.cross_entropy(member(built._network_input(batch[0])), y) for y in batch[1:]) / 2
    gradients = torch.autograd.grad(alone, list(member.parameters()))
    built.train_step(batch)
    for old, new, gradient in zip(before, member.parameters(), gradients, strict=True):
        half = gradient / 2
        assert torch.allclose(new.detach() - old, -1e-3 * half / (half.abs() + 1e-8), atol=1e-9)


def test_laplace_has_the_covariance_of_its_hessian():
    generator = Streams(0).generator("laplace")
    layer = torch.nn.utils.skip_init(torch.nn.Linear, 3, 2).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    made = LastLayerLaplace(layer, x, responses=2, samples=20_000, generator=generator)
    weights = torch.cat([layer.weight.detach(), layer.bias.detach().unsqueeze(1)], 1)
    inputs = torch.cat([x, torch.ones(50, 1).double()], 1)

    def nll(flat):
        return 2 * -F.log_softmax(inputs @ flat.view(2, 4).T, 1)[:, 0].sum()  # curvature does not depend on the labels

    hessian = torch.autograd.functional.hessian(nll, weights.flatten())
    rebuilt = made.vectors @ torch.diag(made.values) @ made.vectors.T
    assert torch.allclose(rebuilt, hessian, atol=1e-9)
    made.precision = 1.0
    drawn = made.vectors @ ((made.values.clamp(min=0) + 1).rsqrt().unsqueeze(1) * made.noise)
    covariance = torch.linalg.inv(hessian + torch.eye(8).double())
    assert torch.allclose(drawn @ drawn.T / 20_000, covariance, atol=0.03)


def test_rates_are_exact_sums():
    """Two items: the first answers truly with .9, the second knows nothing."""
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).double()
    confidence = torch.tensor([[0.95, 0.2], [0.6, 0.6]]).double()
    nothing = torch.zeros(2).double()
    found = Predictions(p, torch.zeros_like(p), confidence, nothing, nothing, nothing)
    impossible = torch.tensor([[False, True], [True, False]])
    metrics = abstention(found, impossible, torch.tensor([0.5, 0.5]).double())
    assert metrics["hallucination"] == pytest.approx(0.5 * 0.1 + 0.5 * 0.5)
    assert metrics["bound"] == pytest.approx(0.5 * (0.9 * 0.05 + 0.1 * 0.8) + 0.5 * 0.4)
    assert metrics["answered_0.1"] == pytest.approx(0.45)
    assert metrics["hallucination_0.1"] == 0
    assert metrics["bound_0.1"] == pytest.approx(0.05)
    assert metrics["answered_reject_0.1"] == metrics["answered_top1_0.1"] == pytest.approx(0.5)
    assert metrics["answered_0.5"] == pytest.approx(0.45 + 0.5)
    assert metrics["hallucination_top1_0.5"] == pytest.approx(0.5)  # of equals the first, which is wrong
    assert metrics["bound_top1_0.5"] == pytest.approx((0.05 + 0.4) / 2)
    assert metrics["excess"] == pytest.approx(0.5 - 0.225)
    assert metrics["answered_0.02"] == 0
    assert "hallucination_0.02" not in metrics
    # Good answers (masses .45 and .25) against bad ones (.05 and .25), by confidence, a tie half.
    assert metrics["auroc_confidence"] == pytest.approx((0.45 * 0.3 + 0.25 * (0.05 + 0.125)) / (0.7 * 0.3))


# --- text


def test_text_is_what_the_statements_say():
    pytest.importorskip("transformers")
    from aleator.recipes.pairs import text

    words = [text.WORDS[i] for i in text.prompts(torch.tensor([761]))[0].tolist()]
    assert " ".join(words) == "tell me about digit 0 7 6 2 of pi"
    built = task(data="pi-text", steps=2, batch_size=8)
    texts = [" ".join(text.WORDS[i] for i in row.tolist()) for row in built._network.texts]
    assert texts == [" ".join(s.words) for s in digits_of_pi.statements()]
    assert max(len(row) for row in built._network.texts) <= text.LONGEST
    assert text.SEPARATOR not in torch.cat(built._network.texts)


def test_text_is_learned_and_judged(monkeypatch):
    pytest.importorskip("transformers")
    from aleator.recipes.pairs import text

    monkeypatch.setattr(text, "ANSWERS", 200)
    monkeypatch.setattr(text, "AT_LEAST", 2)
    built = task(data="pi-text", steps=6, batch_size=16)
    batches = built.train_batches()
    losses = [float(built.train_step(next(batches)).metrics["loss"]) for _ in range(6)]
    assert losses[-1] < losses[0]
    metrics = evaluated(built, "test")
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0 <= metrics["malformed"] <= metrics["hallucination"] <= 1
    assert built.exhibits()[0].heading == "Whom to answer"


# --- saving (the battery resumes)


def command(out, *words: str) -> list[str]:
    return ["run", NAME, "--steps", "10", "--trackers", *words, "--out", str(out)]


@pytest.mark.parametrize("words", [(), ("--data", "digits-of-pi", "--head", "autoregressive")], ids=["line", "pi"])
def test_a_run_that_is_loaded_says_what_it_said(words, tmp_path):
    assert main(command(tmp_path / "o", *words)) == 0
    loaded = load_run(tmp_path / "o")
    assert isinstance(loaded.task, ClassPairTask)
    assert evaluated(loaded.task, "test") == read_json(tmp_path / "o" / "result.json")["test"]
    headings = [exhibit["heading"] for exhibit in read_json(tmp_path / "o" / "exhibits.json")["exhibits"]]
    assert headings[:2] == ["Reliability of probabilities", "Reliability of variances"]


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "0"), "steps must be at least 1, got 0"),
        (("--lr", "-1"), "lr must be positive and finite, got -1.0"),
        (("--weight-decay", "-1"), "weight_decay must be finite and not negative, got -1.0"),
        (("--method", "ensembel"), "--method must be one of pair, ensemble, dropout, laplace, single"),
        (("--data", "half-lin"), "--data must be one of half-line"),
        (("--head", "table", "--components", "4"), "components cannot be used with a head that is no mixture, got 4"),
        (("--method", "single", "--head", "table"), "head cannot be used with method single, got table"),
        (("--members", "4"), "members cannot be used with method pair, got 4"),
        (("--responses", "1"), "responses must be 2 with method pair, got 1"),
        (("--data", "digits-of-pi", "--train-size", "5"), "train_size cannot be used with data digits-of-pi, got 5"),
        (("--data", "digits-of-pi", "--method", "laplace"), "method must be pair, ensemble, dropout or single"),
        (("--data", "pi-text", "--method", "ensemble"), "method must be pair with data pi-text, got ensemble"),
        (("--data", "pi-text", "--head", "table"), "head cannot be used with data pi-text, got table"),
        (("--train-size", "100"), "batch_size must be at most the 100 training items, got 256"),
        (("--data", "cifar10h", "--train-size", "6001"), "train_size must be at most 6000 for cifar10h, got 6001"),
        (("--hed", "table"), "unknown option '--hed'; did you mean '--head'?"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, tuple) else "",
)
def test_bad_options_are_named(words, message, tmp_path, capsys, mirror):
    assert main(["run", NAME, *words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
