"""One battery for every recipe: a killed run goes on to the same bits, and two processes compute what one does.

A method that is an option of a recipe gets a row here and no test of its own for either.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from aleator.experiment import RunOptions, run
from aleator.experiment.files import read_json
from aleator.experiment.registry import names, resolve
from aleator.experiment.test_examples import read_test_examples
from aleator.experiment.tracking import read_metrics
from tests.experiment.survival import Scenario, Trial

HERE = Path(__file__).parent
DIABETES = f"{HERE / 'parts' / 'diabetes.py'}:Diabetes"
ON_DISK = f"{HERE / 'parts' / 'images_on_disk.py'}:Images"

FEW_IMAGES = {"train_size": 96, "test_size": 20, "rounds": 1, "batch_size": 16}
GATES = {**FEW_IMAGES, "experts": 32, "gater_hidden": 8}
TEXT = {"files": ("one=one.txt", "two=two.txt"), "width": 16, "context": 16, "eval_bytes": 200, "batch_size": 4}
GRAPHS = {"samples": 4, "validation_samples": 2, "sampling_steps": 3, "steps": 4, "batch_size": 32}
CURVE = {"data": "ud-galician-treegal", "step": 700, "train_size": 6000, "lookahead": 0}
PDE = {"dimensions": 10, "steps": 6, "points": 8, "width": 8}
FIELD = {"steps": 6, "batch_size": 256}
CONTROL = {
    "steps": 14, "learning_starts": 4, "batch_size": 4, "width": 8, "train_freq": 2, "episodes": 1, "test_episodes": 1,
}  # fmt: skip
IDENTITY = {"steps": 6, "batch_size": 4, "width": 8, "depth": 1, "sampling_steps": 2, "test_clips": 8}
SPIKING = {"hidden": 12, "validation_size": 4, "test_size": 9}


@dataclass(frozen=True)
class Case:
    """A recipe and its options, small enough for a few seconds.

    Attributes:
        recipe: its name, or a file and a class.
        options: of the run.
        steps: a function of `tests.experiment.injection` that makes steps small, where a run has few of them.
        two: further options for two processes: float64 where the recipe has it. None where the recipe is for one.
        within: the relative difference that is allowed between two processes and one.
        every: steps between two evaluations of the run that is killed.
    """

    recipe: str
    options: dict[str, Any]
    steps: str | None = None
    two: dict[str, Any] | None = None
    within: float = 1e-9
    every: int = 2


ALIGNMENT = {
    "flow_steps": 20, "classifier_steps": 20, "prm_steps": 20, "width": 8, "depth": 1, "groups": 2, "group_size": 4,
    "sampling_steps": 4, "iterations": 6, "test_samples": 8,
}  # fmt: skip
EXACT = {"precision": "float64"}
CASES = {
    "classify-rs2": Case("classify", {**FEW_IMAGES, "subset": "rs2", "ratio": 0.5, "optimizer": "lamb"}, two=EXACT),
    "classify-tract": Case("classify", {**FEW_IMAGES, "first_layer": "tract", "accumulate": 2, "ema": 0.9}, two=EXACT),
    "classify-surrogate": Case("classify", {**FEW_IMAGES, "surrogate": 3, "optimizer": "adamw"}, two=EXACT),
    "classify-surrogate-tract": Case("classify", {**FEW_IMAGES, "surrogate": 3, "first_layer": "tract"}, two=EXACT),
    "classify-proximal": Case(
        "classify", {**FEW_IMAGES, "optimizer": "proximal-sgd", "prox": "l1", "prox_lam": 0.01}, two=EXACT
    ),
    # The penalty's weight and the baseline are kept in float32.
    "gates-st": Case("gates", {**GATES, "gate": "st"}, two=EXACT, within=1e-6),
    "gates-sbn": Case("gates", {**GATES, "gate": "sbn"}, two=EXACT, within=1e-6),
    "gates-noisy-relu": Case("gates", {**GATES, "gate": "noisy-relu"}, two=EXACT, within=1e-6),
    "language-gru": Case(
        "language",
        {**TEXT, "model": "gru", "steps": 6, "mixture_schedule": "auto-cooldown", "patience": 1},
        two=EXACT,
    ),
    # LLaMA's normalisation and the predictors of boundaries are in float32, whatever the model is in.
    "language-spectra": Case(
        "language", {**TEXT, "heads": 2, "steps": 6, "optimizer": "spectra-adamw"}, two={**EXACT, "shard": True},
        within=1e-6,
    ),
    "language-weighted": Case(
        "language",
        {
            **TEXT, "model": "gru", "steps": 6, "temperature": 5.0, "weighting": "scalarization",
            "normalize": "weights", "accumulate": 2,
        },
        two=EXACT,
    ),
    "language-bpe": Case("language", {**TEXT, "heads": 2, "steps": 6, "tokenization": "bpe"}, two=EXACT, within=1e-6),
    # One window of each domain: each process has one of the two predictors' rows.
    "language-magnet": Case(
        "language", {**TEXT, "heads": 2, "steps": 6, "tokenization": "magnet", "batch_size": 2, "temperature": 1e9},
        two={**EXACT, "shard": True}, within=1e-5,
    ),
    # S3IM is a mean over processes, each with its own pixels, so two processes compute another one than one does.
    "field": Case("field", {**FIELD, "s3im_fall": 0.5, "noise": 0.1, "size": 16, "resolution": 8, "samples": 8}),
    "field-mse": Case(
        "field", {**FIELD, "s3im_weight": 0.0, "size": 16, "resolution": 8, "samples": 8},
        two=EXACT,
    ),
    "field-crops": Case("field", {**FIELD, "sampling": "crops", "size": 20, "s3im_repeats": 1}),
    "field-images": Case("field", {**FIELD, "data": "images", "size": 32}),
    "graphs": Case("graphs", {**GRAPHS, "average_weights": True}, two={}, within=1e-3),
    "spiking-layerwise": Case(
        "spiking", {**SPIKING, "schedule": "layerwise", "train_size": 4}, steps="take_small_steps", two={}
    ),
    "spiking-frozen": Case(
        "spiking", {**SPIKING, "engine": "frozen", "batch_size": 2, "train_size": 8}, steps="take_small_steps", two={}
    ),
    "spiking-dense": Case("spiking", {**SPIKING, "engine": "dense", "train_size": 3}, steps="take_single_steps"),
    "spiking-private": Case(
        "spiking", {**SPIKING, "engine": "private", "batch_size": 2, "train_size": 6}, steps="take_small_steps"
    ),
    "surrogate": Case(
        "surrogate", {"calls": 6, "batch_size": 50, "inner": "adam", "step_schedule": "adagrad-norm"}
    ),
    "surrogate-sls": Case("surrogate", {"calls": 6, "method": "sls", "loss_after": (2, 4)}),
    "surrogate-imitation": Case(
        "surrogate", {"calls": 6, "problem": "linear-imitation", "step_schedule": "inverse-sqrt"}
    ),
    "control": Case("control", {**CONTROL, "temperature": "adam"}, every=7),
    "control-members": Case(
        "control", {**CONTROL, "env": "RiskyPointMass-v0", "betas": (0.0, 1.0), "n_envs": 2, "critic_dropout": 0.1},
        every=7,
    ),
    "curve": Case("curve", {**CURVE, "tagger": "perceptron", "against": "hmm"}),
    "curve-folds": Case("curve", {**CURVE, "folds": 2}),
    "decentral": Case("decentral", {"rounds": 6, "machines": 2, "hash_every": 2}),
    "decentral-backprop": Case("decentral", {"rounds": 6, "machines": 2, "method": "backprop"}),
    "pairs": Case("pairs", {"steps": 6}, two=EXACT, within=1e-6),
    "pairs-digits": Case("pairs", {"steps": 4, "data": "digits-of-pi", "head": "autoregressive"}),
    "identity": Case("identity", IDENTITY, two=EXACT, within=1e-6),
    "identity-always-on": Case("identity", {**IDENTITY, "arm": "always-on", "guidance": "progress"}),
    "pde": Case(
        "pde", {**PDE, "problem": "semilinear", "operator": "heat", "dimension_sets": 2, "ema": 0.9}, two=EXACT
    ),
    "pde-blocks": Case("pde", {**PDE, "problem": "hjb-log", "estimator": "exact", "blocks": 3}, two=EXACT, every=6),
    "alignment": Case(
        "alignment", {**ALIGNMENT, "kl_coef": 0.1, "prm_at": "delta", "timestep_fraction": 0.5}, two=EXACT, within=1e-6
    ),
    "a recipe of one's own": Case(
        DIABETES, {"subset": "rs2", "ratio": 0.3, "optimizer": "adamw", "rounds": 4}, two=EXACT
    ),
    "a recipe with a dataset": Case(
        ON_DISK, {"loader_workers": 1, "first_layer": "tract", "rounds": 1}, two={**EXACT, "batch_size": 20}
    ),
}  # fmt: skip

# What a run imports, imported once for all.
MODULES = (
    *("aleator.recipes.parts.supervised", "aleator.recipes.language.task", "aleator.recipes.graphs.task"),
    *("aleator.recipes.spiking.task", "aleator.recipes.curve.task", "aleator.recipes.surrogate.tables"),
    *("aleator.recipes.surrogate.imitation", "aleator.recipes.pairs.task", "aleator.recipes.decentral.task"),
    *("aleator.recipes.pde.task", "aleator.recipes.field.task", "aleator.recipes.control.task"),
    *("aleator.recipes.alignment.task", "aleator.recipes.identity.task"),
    *("imageio.v3", "sklearn.base", "scipy.stats", "scipy.integrate", "tokenizers", "gymnasium"),
    *("transformers.models.llama.modeling_llama", "aleator.experiment.report.run_page"),
)

pytestmark = pytest.mark.usefixtures("mirror")


def typed(options: dict[str, Any]) -> list[str]:
    """Return options as words of a command."""
    return [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,)))
    ]


@pytest.fixture(scope="module")
def ready(warm, warm_kernels):
    """The interpreter that forks a child for every run, with all that a run imports or loads."""
    warm.get_ready(*MODULES)
    return warm


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts of words in random order, one of them three times the other."""
    folder = tmp_path_factory.mktemp("battery")
    for name, seed, length, letters in (("one", 1, 9000, "abcdefgh"), ("two", 2, 3000, "бвгдежзи")):
        draw = random.Random(seed)
        words = ["".join(draw.choice(letters) for _ in range(draw.randint(2, 7))) for _ in range(40)]
        (folder / f"{name}.txt").write_text(" ".join(draw.choice(words) for _ in range(length // 4))[:length])
    return folder


def there(options: dict[str, Any], place: Path) -> dict[str, Any]:
    """Return options whose files are found from everywhere."""
    found = [f"{name}={place / path}" for name, path in (word.split("=") for word in options.get("files", ()))]
    return {**options, "files": tuple(found)} if found else options


def test_every_recipe_has_a_case():
    assert {case.recipe for case in CASES.values()} >= set(names())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_run_killed_behind_a_checkpoint_goes_on_to_the_same_bits(name, ready, place, tmp_path):
    case = CASES[name]
    words = typed(there(case.options, place))
    often = ("--checkpoint-seconds", "0", "--log-every", "1", "--evaluate-every", str(case.every))
    prepare = [case.steps] if case.steps else None
    command = ["run", case.recipe, *words, *often, "--trackers", "--out", "o/it"]
    scenario = Scenario("run", command, [["run", "--resume", "--out", "o/it"]], prepare)
    trial = Trial(ready, scenario, tmp_path)
    saved = [at for at, made in enumerate(trial.operations) if made.startswith("rename /it/checkpoints/step-")]
    assert len(saved) > 2, "too few steps to be killed between two of them"
    assert [cut.fault for cut in trial.cut([(saved[1] + 1, "kill")])] == [""]


@pytest.fixture(scope="module")
def twos(place, processes, ready):
    """The folder of what every case for two processes left, each run in two processes."""
    asked = [
        {"recipe": case.recipe, "options": {**there(case.options, place), **case.two}, "out": str(place / "two" / name)}
        for name, case in CASES.items()
        if case.two is not None
    ]
    processes(HERE / "parts" / "program.py", 2, json.dumps(asked), timeout=600)
    return place / "two"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.two is not None])
def test_two_processes_compute_what_one_does(name, place, twos, tmp_path):
    case = CASES[name]
    options = {**there(case.options, place), **case.two}
    one = run(resolve(case.recipe)(**options), tmp_path, RunOptions(trackers=(), log_every=1), name=case.recipe)
    two = read_json(twos / name / "result.json")
    assert two["test"] == pytest.approx(one["test"], rel=case.within, abs=1e-12)
    assert (two["examples"], two["steps"]) == (one["examples"], one["steps"])
    logs = [read_metrics(folder / "metrics.jsonl") for folder in (tmp_path, twos / name)]
    for first, second in zip(*logs, strict=True):
        assert second["metrics"] == pytest.approx(first["metrics"], rel=case.within, abs=1e-12)
    assert two["test_examples"] == one["test_examples"]
    if one["test_examples"]:
        each = [read_test_examples(folder, one) for folder in (tmp_path, twos / name)]
        assert each[1].values == pytest.approx(each[0].values, rel=1e3 * case.within, abs=1e-9)
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path, twos / name)]
    for key, value in weights[0].items():
        assert weights[1][key].numpy() == pytest.approx(value.numpy(), rel=1e4 * case.within, abs=1e-5), key
