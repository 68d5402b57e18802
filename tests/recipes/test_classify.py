import copy
import itertools

import pytest
import torch
from torch import nn

from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.tracking import read_metrics
from aleator.nn import TrAct
from aleator.random import Streams
from aleator.recipes.classify import Classify
from aleator.recipes.classify.augment import crop, flip
from aleator.recipes.classify.models import image_model
from aleator.recipes.parts.task import SupervisedTask

TINY = RunOptions(trackers=(), log_every=1)


def task(options: Classify, seed: int = 0) -> SupervisedTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return options.task(streams, make_accelerator())


def weights(of: SupervisedTask):
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


# --- options that change nothing else: common random numbers


def test_variants_of_one_seed_share_initial_weights_and_held_out_data():
    tasks = [
        task(Classify(subset=s, ratio=None if s == "full" else 0.1))
        for s in ("full", "static", "rs2", "rs2-with-replacement")
    ]
    for other in tasks[1:]:
        assert torch.equal(weights(tasks[0]), weights(other))
        assert torch.equal(tasks[0].held_out["test"].inputs, other.held_out["test"].inputs)


def test_validation_split_is_the_same_for_every_seed_and_disjoint_from_training():
    one, other = task(Classify(), seed=0), task(Classify(), seed=1)
    assert torch.equal(one.held_out["validation"].inputs, other.held_out["validation"].inputs)
    assert len(one.held_out["validation"].targets) == 143
    train = {bytes(x.numpy().tobytes()) for x in one.train.inputs}
    held = {bytes(x.numpy().tobytes()) for x in one.held_out["validation"].inputs}
    assert len(train & held) == 0
    assert len(one.train.targets) + len(one.held_out["validation"].targets) == 1437


def test_training_sets_are_nested_in_size_and_redrawn_for_another_seed():
    def rows(size, seed):
        return [bytes(x.numpy().tobytes()) for x in task(Classify(train_size=size), seed=seed).train.inputs]

    assert rows(100, 0) == rows(300, 0)[:100]
    assert set(rows(300, 0)) != set(rows(300, 1))


# --- the arithmetic of budgets: 1294 training examples, a tenth is 129, 4 batches of 32 fit


@pytest.mark.parametrize(
    ("options", "steps", "schedule_steps"),
    [
        (Classify(rounds=5), 200, 200),
        (Classify(rounds=5, subset="rs2", ratio=0.1), 20, 20),
        (Classify(rounds=5, subset="static", ratio=0.1), 20, 20),
        (Classify(rounds=5, subset="rs2", ratio=0.1, schedule_length="full"), 20, 200),
        (Classify(rounds=5, schedule_length="compressed", ratio=0.1), 20, 20),
        (Classify(rounds=5, stop_at=20), 20, 200),
        (Classify(rounds=5, stop_at=1000), 200, 200),
    ],
)
def test_budget_and_schedule_lengths(options, steps, schedule_steps):
    built = task(options)
    assert built.budget.total == steps
    assert built.schedule.total_steps == schedule_steps


def test_static_subset_is_drawn_once_and_rs2_again_in_every_round():
    def seen(subset, rounds):
        built = task(Classify(subset=subset, ratio=0.1, batch_size=43))
        batches = built.train_batches()
        return {bytes(x.numpy().tobytes()) for _ in range(3 * rounds) for x in next(batches).inputs}

    assert len(seen("static", 1)) == len(seen("static", 10)) == 129
    assert len(seen("rs2", 10)) == 1290  # ten disjoint rounds of 129
    with_replacement = len(seen("rs2-with-replacement", 10))
    assert 129 * 3 < with_replacement < 1290 - 129


def test_stratified_subset_has_every_class_in_proportion():
    built = task(Classify(subset="static", ratio=0.1, stratified=True))
    shares = torch.bincount(built.train.targets) / len(built.train.targets)
    whole = torch.bincount(task(Classify()).train.targets) / 1294
    assert (shares - whole).abs().max() < 1 / 129


# --- what a step does


def test_accumulated_step_equals_the_whole_step():
    one = task(Classify(precision="float64"))
    cut = task(Classify(precision="float64", accumulate=3))
    for built in (one, cut):
        batches = built.train_batches()
        for _ in range(5):
            built.train_step(next(batches))
    assert torch.allclose(weights(one), weights(cut), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model", ["mlp", "cnn", "vit-tiny"])
def test_tract_starts_from_the_plain_weights_and_accumulates_exactly(model):
    options = {"model": model, "precision": "float64", "max_grad_norm": 0.1}
    plain = task(Classify(**options))
    whole = task(Classify(**options, first_layer="tract"))
    cut = task(Classify(**options, first_layer="tract", accumulate=3))
    assert torch.equal(weights(plain), weights(whole))
    assert plain.evaluate("test") == whole.evaluate("test")
    for built in (plain, whole, cut):
        batches = built.train_batches()
        for _ in range(3):
            built.train_step(next(batches))
    assert torch.allclose(weights(whole), weights(cut), rtol=1e-8, atol=1e-10)
    assert (weights(whole) - weights(plain)).abs().max() > 1e-5
    assert whole.state_dict()["model"].keys() == plain.state_dict()["model"].keys()


def test_lam_of_tract_is_the_options():
    built = task(Classify(first_layer="tract", tract_lam=0.2, train_size=64))
    assert [module.lam for module in built.model.modules() if isinstance(module, TrAct)] == [0.2]


@pytest.mark.parametrize("first_layer", ["plain", "tract"])
def test_the_first_layer_alone_learns_at_its_own_rate(first_layer):
    options = {"model": "cnn", "precision": "float64", "first_layer": first_layer, "weight_decay": 0}
    changes = []
    for ratio in (1.0, 4.0):
        built = task(Classify(**options, first_layer_lr_ratio=ratio))
        before = [p.detach().clone() for p in built.model.parameters()]
        metrics = built.train_step(next(built.train_batches())).metrics
        assert float(metrics["lr"]) == pytest.approx(0.05)
        changes.append([p.detach() - b for p, b in zip(built.model.parameters(), before, strict=True)])
    factors = [float((four / one).nanmedian()) for one, four in zip(*changes, strict=True)]
    assert factors == pytest.approx([4.0, 4.0] + [1.0] * 6)


def test_training_loss_is_that_of_the_first_2000_training_images_as_they_are(mirror):
    built = task(Classify(data="mnist", train_size=2100, test_size=20, augment="crop"))
    x, y = built.options.images.normalise(built.train.inputs[:2000], torch.float32), built.train.targets[:2000]
    with torch.no_grad():
        expected = float(nn.functional.cross_entropy(built.model(x), y))
        assert built.evaluate("test")["train_loss"] == pytest.approx(expected, rel=1e-5)
        assert built.evaluate("test")["examples"] == 20
        assert "train_loss" not in built.evaluate("validation")


def test_augmentation_draws_from_its_own_stream_and_resumes():
    options = Classify(augment="flip-crop", rounds=1)
    streams = Streams(0)
    with streams.scope("init"):
        built = options.task(streams, make_accelerator())
    batch = next(built.train_batches())
    built.train_step(batch)
    saved = copy.deepcopy({"streams": streams.state_dict(), "task": built.state_dict()})
    built.train_step(batch)
    after = weights(built)
    built.load_state_dict(saved["task"])
    streams.load_state_dict(saved["streams"])
    built.train_step(batch)
    assert torch.equal(weights(built), after)


def test_flip_mirrors_about_half_and_nothing_else():
    images = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4).expand(400, -1, -1, -1)
    flipped = flip(images, Streams(0).generator("x"))
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    # 400 fair coins: outside 140..260 with probability below 1e-8.
    assert 140 < int(mirrored.sum()) < 260


def test_crop_takes_a_window_of_the_padded_image():
    image = torch.arange(1, 1 + 5 * 6).reshape(1, 1, 5, 6)
    padded = nn.functional.pad(image, (2, 2, 2, 2))[0, 0]
    windows = {tuple(padded[i : i + 5, j : j + 6].flatten().tolist()) for i in range(5) for j in range(5)}
    cropped = crop(image.expand(500, -1, -1, -1), Streams(0).generator("x"), padding=2)
    found = {tuple(window.flatten().tolist()) for window in cropped}
    # 25 windows, 500 draws: one is missing with probability below 25 · (24/25)^500 < 1e-7.
    assert found == windows


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", 85_002),
        ("mlp-without-bias", 64 * 128 + 2 * 128 * 128 + 128 * 10),
        ("mlp-normalised", 65 * 128 + 3 * 129 * 128 + 4 * 2 * 128 + 129 * 10),
        ("cnn", 53_002),
        ("cnn-bn", (9 + 3) * 16 + (9 * 16 + 3) * 32 + (9 * 32 + 3) * 64 + 65 * 10),
        ("resnet18", 11_172_810),
        # A layer of width d: attention 4d² + 4d, feed-forward 2d² + 2d, normalisations 4d; then patches of 16 pixels,
        # four positions, a normalisation and the head.
        ("vit", 7 * (6 * 384**2 + 10 * 384) + 17 * 384 + 4 * 384 + 2 * 384 + 3850),
        ("vit-tiny", 4 * (6 * 96**2 + 10 * 96) + 17 * 96 + 4 * 96 + 2 * 96 + 970),
    ],
)
def test_models_have_the_size_they_should_have(name, parameters):
    with Streams(0).scope("init"):
        model = image_model(name, (1, 8, 8), 10)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_resnet18_for_cifar_has_the_published_number_of_parameters():
    with Streams(0).scope("init"):
        model = image_model("resnet18", (3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962


def test_layers_of_a_transformer_start_from_weights_of_their_own():
    with Streams(0).scope("init"):
        model = image_model("vit-tiny", (1, 8, 8), 10)
    first, second = (block.linear1.weight for block in model.blocks[:2])
    assert (first - second).abs().mean() > 0.01
    assert model(torch.ones(2, 1, 8, 8)).shape == model.eval()(torch.ones(2, 1, 8, 8)).shape


def test_a_transformer_cuts_images_into_whole_patches():
    with (
        Streams(0).scope("init"),
        pytest.raises(ValueError, match="height and width must be multiples of 4, got 8 x 6"),
    ):
        image_model("vit", (1, 8, 6), 10)


def test_rescaled_layers_compute_the_same_function_from_other_weights():
    plain, scaled = (task(Classify(model="mlp-without-bias", rescale=c)) for c in (1.0, 4.0))
    assert scaled.evaluate("test") == plain.evaluate("test")
    factors = [
        float((b / a).detach().mean()) for a, b in zip(plain.model.parameters(), scaled.model.parameters(), strict=True)
    ]
    assert factors == [4, 0.25, 4, 0.25]


@pytest.mark.parametrize("optimizer", ["lamb", "lars"])
def test_layerwise_optimizers_move_matrices_by_lr_and_leave_vectors_without_decay(optimizer):
    built = task(Classify(optimizer=optimizer, lr=0.125, weight_decay=0.1, schedule="constant", precision="float64"))
    before = {name: weight.detach().clone() for name, weight in built.model.named_parameters()}
    built.train_step(next(built.train_batches()))
    for name, weight in built.model.named_parameters():
        change = float((weight.detach() - before[name]).norm() / before[name].norm())
        assert (change == pytest.approx(0.125, rel=1e-9)) == (weight.ndim > 1)
    decays = {
        weight.ndim: group["weight_decay"] for group in built.optimizer.param_groups for weight in group["params"]
    }
    assert decays == {2: 0.1, 1: 0.0}


def test_linear_schedule_warms_up_and_ends_at_zero():
    built = task(Classify(schedule="linear", warmup=10, lr=0.5, rounds=1))
    rates = []
    for _ in range(40):
        rates.append(built.schedule.get_last_lr()[0])
        built.optimizer.step()
        built.schedule.step()
    assert rates[:11] == pytest.approx([0.05 * k for k in range(1, 11)] + [0.5 * 0.75])
    assert rates[-1] == pytest.approx(0.5 / 40)
    assert built.schedule.get_last_lr() == [0]


# --- the recipe end to end


def test_recipe_learns_digits(tmp_path):
    result = run(Classify(rounds=10), tmp_path / "run", TINY, name="classify")
    assert result["test"]["accuracy"] > 0.95
    assert result["test"]["examples"] == 360
    assert result["examples"] == result["steps"] * 32
    rates = [
        row["metrics"]["lr"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["split"] == "train"
    ]
    assert rates[0] == pytest.approx(0.05)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))


def test_recipe_learns_in_float64_with_clipping_and_with_other_optimizers(tmp_path):
    accuracies = {}
    for name, options in {
        "float64": Classify(rounds=3, precision="float64", max_grad_norm=1.0),
        "constant": Classify(rounds=3, schedule="constant", optimizer="adamw", inputs="unit"),
        "lamb": Classify(rounds=3, optimizer="lamb"),
        "lars": Classify(rounds=3, optimizer="lars"),
        "signum": Classify(rounds=3, optimizer="signum"),
        "tract": Classify(rounds=3, first_layer="tract", tract_lam=0.2),
        "vit-tiny": Classify(rounds=3, model="vit-tiny", optimizer="adamw", lr=2e-3, first_layer="tract"),
    }.items():
        accuracies[name] = run(options, tmp_path / name, TINY, name="classify")["test"]["accuracy"]
    assert min(accuracies.values()) > 0.85


def test_cifar10_from_the_mirror_trains_resnet18(mirror, tmp_path):
    options = Classify(
        data="cifar10", model="resnet18", augment="flip-crop", batch_size=16, rounds=1, stop_at=2,
        train_size=64, validation_size=20, test_size=20,
    )  # fmt: skip
    result = run(options, tmp_path / "run", TINY, name="classify")
    assert result["steps"] == 2
    assert result["test"]["examples"] == 20


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0, "subset": "rs2"}, r"ratio must be in \(0, 1\], got 0"),
        ({"ratio": 1.5, "subset": "rs2"}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"lr": -1}, "lr must be positive and finite, got -1"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\), got 1"),
        ({"batch_size": 0}, "batch_size must be positive and finite, got 0"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative, got -0.1"),
        ({"ratio": 0.01, "subset": "rs2"}, "batch_size .*32.*13|13.*32"),
        ({"train_size": 5000}, "train_size must be at most 1294, got 5000"),
        ({"test_size": 5000}, "test_size must be at most 360, got 5000"),
        ({"validation_size": 5000}, "validation_size must be below the 1437 training examples, got 5000"),
        ({"data": "mnits"}, "mnist"),
        ({"rescale": 4}, "rescale must be 1 with model mlp, got 4"),
        ({"tract_lam": 0.2}, "tract_lam cannot be used with first_layer plain, got 0.2"),
        ({"tract_lam": 0}, "tract_lam must be positive and finite, got 0"),
        ({"first_layer_lr_ratio": 0}, "first_layer_lr_ratio must be positive and finite, got 0"),
        (
            {"first_layer_lr_ratio": 3, "optimizer": "lars"},
            "first_layer_lr_ratio must be 1 with optimizer lars, got 3",
        ),
        ({"rescale": -1}, "rescale must be positive and finite, got -1"),
        ({"schedule": "linear", "warmup": 5000}, r"warmup_steps must be in \[0, 2400\], total_steps, got 5000"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        task(Classify(**options))


def test_centred_inputs_are_unit_inputs_less_the_mean_of_each_pixel():
    centred, unit = Classify(inputs="centred"), Classify(inputs="unit")
    train = centred.images.train.inputs
    expected = unit.prepared(train) - unit.prepared(train).mean(0)
    torch.testing.assert_close(centred.prepared(train), expected, rtol=1e-5, atol=1e-6)
    assert float(centred.prepared(train).mean((0, 1)).abs().max()) < 1e-6
    assert centred.prepared(train[:3]).shape == (
        3,
        1,
        8,
        8,
    )  # the mean is that of the training part, whatever the batch
    torch.testing.assert_close(centred.prepared(train[:3]), expected[:3], rtol=1e-5, atol=1e-6)
