"""Every option of every recipe changes something in some setting, or is refused.

One row for each option: two values and the setting in which they differ, in what is trained or in what is reported; or
the value and the line that refuses it; or, for a handful, why that cannot be shown in a test.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import pytest
import torch
from accelerate.state import AcceleratorState

from aleator.experiment import registry
from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes.graphs.task import GenerationTask

# Episodes of five steps, where an evaluation takes no time.
gymnasium.register("Short-v0", entry_point="tests.rl.worlds:Counting", kwargs={"cut": 5})

pytestmark = pytest.mark.usefixtures("mirror")


@dataclasses.dataclass(frozen=True)
class Differs:
    """Two values, and the setting in which they make a difference."""

    one: Any
    other: Any
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Refused:
    """A value that is refused, and the line."""

    value: Any
    line: str


@dataclasses.dataclass(frozen=True)
class NotShown:
    """Why a test cannot show it."""

    reason: str


SHARD = NotShown("one process has nothing to share out; test_classify and test_language shard over two")
SPECTRA = {"optimizer": "spectra-adamw"}
TRAINING = {
    "optimizer": Differs("sgd", "adamw"),
    "lr": Differs(0.01, 0.02),
    "momentum": Differs(0.5, 0.8, {"optimizer": "sgd"}),
    "betas": Differs((0.8, 0.9), (0.9, 0.99), {"optimizer": "adamw"}),
    "weight_decay": Differs(0.0, 0.5),
    "clip": Differs(0.5, 1.0, SPECTRA),
    "apply_to": Differs("all", "matrices", {**SPECTRA, "clip": 0.1}),
    "max_grad_norm": Differs(0.01, 0.02, {"optimizer": "sgd"}),
    "accumulate": Differs(1, 2),
    "schedule": Differs("cosine", "linear"),
    "lr_min": Differs(0.001, 0.002, {"schedule": "cosine"}),
    "warmup": Differs(1.0, 2.0, {"schedule": "cosine"}),
    "precision": Differs("float32", "float64"),
    "shard": SHARD,
}
IMAGES = {
    "data": Differs("digits", "mnist"),
    "train_size": Differs(32, 64),
    "validation_size": Differs(32, 64),
    "test_size": Differs(32, 64),
    "inputs": Differs("standardised", "unit"),
    "batch_size": Differs(8, 16),
    "rounds": Differs(2, 3),
    "steps": Differs(3, 4),
    "resplit": Differs(False, True),
    "stop_at": Differs(2, 3),
    "loader_workers": Refused(2, "loader_workers cannot be used with examples in memory, got 2"),
}
PROX = {
    "prox": Differs("l1", "group-lasso", {"prox_lam": 0.1}),
    "prox_lam": Differs(0.1, 0.2, {"prox": "l1"}),
}
TESTED = {"batch_test": "norm", "max_batch_size": 64, "batch_size": 8}
CLASSIFY = {
    **TRAINING,
    **IMAGES,
    "accumulate": Differs(1, 2, {"model": "cnn-bn"}),
    "model": Differs("mlp", "cnn"),
    "rescale": Differs(1.0, 2.0, {"model": "mlp-without-bias"}),
    "augment": Differs("none", "flip"),
    "subset": Differs("static", "rs2", {"ratio": 0.5}),
    "ratio": Differs(0.3, 0.6, {"subset": "rs2"}),
    "stratified": Differs(False, True, {"subset": "rs2", "ratio": 0.5}),
    "schedule_length": Differs("own", "full", {"subset": "rs2", "ratio": 0.5}),
    "first_layer": Differs("plain", "tract"),
    "tract_lam": Differs(0.1, 0.2, {"first_layer": "tract"}),
    "first_layer_lr_ratio": Differs(1.0, 2.0),
    "surrogate": Differs(None, 2),
    "target_step_size": Differs(1.0, 2.0, {"surrogate": 2}),
    **PROX,
    "batch_test": Differs("norm", "inner", {**TESTED, "eta": 0.3}),
    "max_batch_size": Differs(10, 12, TESTED),
    "eta": Differs(0.3, 3.0, TESTED),
    "batch_lr": Differs("sqrt", "linear", TESTED),
    "ema": Differs(0.1, 0.5),  # in its warm-up, which forgets more than a usual decay
    "lr_rule": Differs("fixed", "curvature"),
    "compile": NotShown("only the first steps take longer; test_seams calls the compiled network"),
}
GATES = {
    **TRAINING,
    **IMAGES,
    "schedule": Differs("constant", "linear"),
    "accumulate": Refused(2, "accumulate must be 1 in the recipe gates, got 2"),
    "shard": Refused(True, "shard must be False in the recipe gates, got True"),
    "gate": Differs("st", "reinmax"),
    "experts": Differs(8, 16),
    "gater_hidden": Differs(4, 5),
    "block": Differs(1, 2),
    "sparsity": Differs(0.1, 0.5),
    "penalty": Differs(0.01, 1.0),
    "gater_lr_ratio": Differs(0.0, 1.0),
    "max_norm": Differs(0.01, 2.0),
    **PROX,
}
COOLDOWN = {"mixture_schedule": "cooldown", "switch_at": 0.0}
MIXTURE = {
    "temperature": Differs(1.0, 100.0),
    "mixture_schedule": Differs("constant", "cooldown"),
    "final_temperature": Differs(1.0, 100.0, COOLDOWN),
    "switch_at": Differs(0.0, 1.0, {"mixture_schedule": "cooldown"}),
    "temperature_steps": Differs(("0=1",), ("0=100",), {"mixture_schedule": "steps"}),
    "patience": Differs(1, 9, {"mixture_schedule": "auto-cooldown", "lr": 1e-30, "temperature": None}),
    "max_epochs": Differs(1.0, 100.0, {"mixture_schedule": "unimax", "steps": 300}),
    "low_resource": Differs(("known",), ("random",), {"mixture_schedule": "order-matters", "switch_at": 1.0}),
    "allocation": Differs("quota", "iid", {"temperature": 2.0}),
    "weighting": Differs("sampling", "scalarization", {"temperature": 2.0}),
    "normalize": Differs("batch", "weights", {"temperature": 2.0, "weighting": "scalarization"}),
}
LANGUAGE = {
    **TRAINING,
    **MIXTURE,
    "data": Differs(("tinyshakespeare",), ("ud-english-ewt",), {"files": (), "eval_bytes": 100}),
    "files": Differs(("known",), ("known", "random")),
    "domains": Differs(("known",), ("random",)),
    "domain_bytes": Differs(("random=500",), ("random=900",)),
    "eval_bytes": Differs(100, 200),
    "context": Differs(8, 16),
    "batch_size": Differs(4, 8),
    "steps": Differs(4, 5),
    "model": Differs("transformer", "gru"),
    "width": Differs(8, 16),
    "layers": Differs(1, 2),
    "heads": Differs(1, 2),
    "tokenization": Differs("bytes", "dtp", {"layers": 2}),
    "vocabulary": Differs(258, 264, {"tokenization": "bpe"}),
    "hourglass_layers": Differs((1, 1, 1), (1, 2, 1), {"tokenization": "dtp", "layers": 2}),
    "boundary_rate": Differs(0.1, 0.5, {"tokenization": "dtp", "layers": 2}),
    "boundary_rates": Differs(("latin=0.1",), ("latin=0.5",), {"tokenization": "magnet", "layers": 2}),
    "scripts": Differs(
        ("known=latin", "random=latin"), ("known=latin", "random=indic"), {"tokenization": "magnet", "layers": 2}
    ),
}
SURROGATE = {
    "problem": Differs("breast-cancer", "digits"),
    "features": Differs("raw", "standardised"),
    "held_out": Differs(0.1, 0.2),
    "loss": Differs("logistic", "squared"),
    "model": Differs("linear", "mlp"),
    "width": Differs(4, 8, {"model": "mlp"}),
    "calls": Differs(3, 4),
    "batch_size": Differs(50, 100),
    "loss_after": Differs((1,), (1, 2)),
    "method": Differs("sso", "gd"),
    "lr": Differs(0.01, 0.02, {"method": "gd"}),
    "inner": Differs("armijo", "lbfgs"),
    "inner_steps": Differs(2, 3),
    "step_size": Differs(0.1, 0.2),
    "step_schedule": Differs("constant", "inverse-sqrt"),
    "armijo_c": Differs(0.1, 0.9),
    "precision": Differs("float32", "float64"),
}
LANGEVIN = {"solver": "euler-langevin"}
GRAPHS = {
    "data": Differs("community-small", "ego-small"),
    "train_size": Differs(6, 8),
    "model": Differs("gdss", "untrained"),
    "coupling": Differs("joint", "independent"),
    "settings": Differs("reduced", "published"),
    "steps": Differs(3, 4),
    "batch_size": Differs(4, 8),
    "lr": Differs(0.01, 0.02),
    "schedule": Differs("cosine", "constant"),
    "samples": Differs(2, 3),
    "validation_samples": Differs(2, 3),
    "solver": Differs("euler", "s4"),
    "sampling_steps": Differs(4, 5),
    "snr": Differs(0.05, 0.2, LANGEVIN),
    "scale_eps": Differs(0.5, 0.9, LANGEVIN),
    "average_weights": Differs(False, True),
    "convention": Differs("emd", "tv"),
}
PAIRS = {
    "data": Differs("half-line", "digits-of-pi", {"train_size": None}),
    "train_size": Differs(100, 200),
    "responses": Differs(1, 2, {"method": "single"}),
    "method": Differs("pair", "single"),
    "head": Differs("table", "mixture"),
    "components": Differs(2, 4, {"head": "mixture"}),
    "members": Differs(2, 3, {"method": "ensemble"}),
    "steps": Differs(2, 3),
    "batch_size": Differs(8, 16),
    "lr": Differs(0.01, 0.02),
    "weight_decay": Differs(0.0, 0.5),
    "precision": Differs("float32", "float64"),
}
PDE = {
    **TRAINING,
    "shard": Refused(True, "shard must be False in the recipe pde, since derivatives read whole layers, got True"),
    "lr_min": Differs(0.0, 0.0005, {"schedule": "cosine"}),
    "ema": Differs(0.1, 0.5),
    "problem": Differs("two-body", "oscillator"),
    "operator": Differs("poisson", "sine-gordon"),
    "dimensions": Differs(4, 5),
    "coefficients": Differs(0, 1),
    "test_points": Differs(10, 20),
    "model": Differs("pinn", "trivial"),
    "width": Differs(4, 5),
    "layers": Differs(2, 3),
    "estimator": Differs("sdgd", "hutchinson"),
    "sampled_dimensions": Differs(1, 2),
    "algorithm": Differs(2, 3, {"sampled_dimensions": 2}),
    "dimension_sets": Differs(1, 2),
    "blocks": Differs(1, 2, {"estimator": "exact"}),
    "points": Differs(8, 16),
    "steps": Differs(2, 3),
}
SPIKING = {
    "data": Differs("digits", "mnist"),
    "train_size": Differs(40, 64),
    "validation_size": Differs(8, 16),
    "test_size": Differs(8, 16),
    "epochs": Differs(1, 2),
    "model": Differs("stdp", "mlp"),
    "hidden": Differs(8, 10),
    "preset": Differs(None, "hao2019-mnist-6400"),
    "theta_decay": Differs("exact", "none"),
    "engine": Differs("event", "frozen", {"train_size": 16}),
    "schedule": Differs("simultaneous", "layerwise"),
    "readout": Differs("sl", "assignment"),
    "without": Differs("nothing", "symmetry"),
    "batch_size": Differs(4, 8, {"engine": "frozen", "train_size": 16}),
    "lr": Differs(0.001, 0.002, {"model": "mlp"}),
}
DROPPED = {"critic_dropout": 0.3}
CONTROL = {
    "env": Differs("Short-v0", "RiskyPointMass-v0"),
    "steps": Differs(9, 12),
    "algorithm": Differs("stac", "sac"),
    "beta": Differs(0.0, 2.0),
    "betas": Differs((0.0, 0.5), (0.0, 2.0)),
    "members": Differs(1, 2),
    "actor_dropout": Differs(0.0, 0.3),
    "critic_dropout": Differs(0.0, 0.3),
    "target_dropout": Differs(False, True, DROPPED),
    "temperature": Differs("exp_sgd", "adam"),
    "init_alpha": Differs(0.2, 0.4),
    "target_entropy": Differs(-1.0, 3.0),
    "width": Differs(4, 5),
    "gamma": Differs(0.9, 0.99),
    "lr": Differs(0.01, 0.02),
    "batch_size": Differs(2, 3),
    "learning_starts": Differs(2, 3),
    "replay": Differs(4, 50),
    "n_envs": Differs(1, 2),
    "train_freq": Differs(1, 2),
    "gradient_steps": Differs(1, 2),
    "normalize_obs": Differs(False, True),
    "episodes": Differs(1, 2),
    "test_episodes": Differs(1, 2),
    "actions": Differs("mean", "average"),
}
CALM = {"tagger": "hmm", "nu": 1.0}
CURVE = {
    "data": Differs("ud-galician-treegal", "ud-english-ewt"),
    "train_size": Differs(5000, 6000),
    "folds": Differs(None, 2),
    "tagger": Differs("suffix", "hmm"),
    "against": Differs("hmm", "naive-bayes"),
    "step": Differs(400, 500),
    "levels_until": Differs(0.6, 1.0),
    "control_step": Differs(600, 1200, {"levels_until": 0.6}),
    "forecast": Differs("power-law", "last-value"),
    "forecast_at": Differs(0.4, 0.6),
    "decide_at": Differs(0.4, 0.7, {"tagger": "naive-bayes", "against": "suffix"}),
    "tau": Differs(1e-6, 1.0, CALM),
    "stop_tau": Differs(None, 0.015, CALM),
    "nu": Differs(1e-9, 1.0),
    "lookahead": Differs(0, 2, {"nu": 1e-3}),
    "anchor": Differs("none", "canonical", CALM),
}
IN_ONE_PROCESS = "cannot be used with machines in one process, got"
DECENTRAL = {
    "learned": NotShown("the other task trains a language model first; test_sentiment takes steps of it"),
    "batch_size": Differs(8, 16),
    "shards": Differs(1, 3),
    "checkpoint": Refused("folder", "checkpoint cannot be used with learned digits, got folder"),
    "lora": Refused(4, "lora cannot be used with learned digits, got 4"),
    "rounds": Differs(2, 3),
    "method": Differs("spsa", "backprop"),
    "samples": Differs(1, 2),
    "lr": Differs(0.01, 0.02),
    "eps": Differs(0.001, 0.1),
    "weight_decay": Differs(0.0, 0.5),
    "directions": Differs("rademacher", "gaussian"),
    "codec": Differs("log8", "float32"),
    "norm": Differs("sqrt", "mean"),
    "machines": Differs(2, 3),
    "peers": Refused(2, "machines cannot be used with peers, got 3"),
    "join": Refused("redis://host", "machines cannot be used with join, got 3"),
    "enter_by": Refused("snapshot", "enter_by must be replay without join, got snapshot"),
    "min_machines": Refused(2, f"min_machines {IN_ONE_PROCESS} 2"),
    "round_timeout": Refused(5.0, f"round_timeout {IN_ONE_PROCESS} 5.0"),
    "robust": Differs("none", "median"),
    "hash_every": Differs(1, 2),
    "snapshot_every": Refused(64, f"snapshot_every {IN_ONE_PROCESS} 64"),
    "log": NotShown("it is what a run writes beside its folder; test_decentral reads it"),
}
DECENTRAL_NOT_SHOWN = {("decentral", option) for option, row in DECENTRAL.items() if type(row) is NotShown}
FIELD = {
    "data": Differs("room", "images"),
    "picture": Differs("astronaut", "camera", {"data": "images"}),
    "views": Differs(2, 3),
    "train_share": Differs(0.4, 0.6, {"data": "images"}),
    "size": Differs(16, 17),
    "shrink": Differs(8, 9, {"data": "nerf-lego-100", "size": None}),
    "noise": Differs(0.0, 0.1),
    "corrupted": Differs(0.0, 0.1),
    "model": Differs("field", "constant"),
    "resolution": Differs(8, 9),
    "samples": Differs(8, 9),
    "s3im_weight": Differs(0.0, 1.0),
    "s3im_repeats": Differs(2, 3),
    "s3im_layout": Differs("super", "separate", {"s3im_height": 8}),
    "s3im_height": Differs(8, 16),
    "s3im_rise": Differs(0.0, 1.0),
    "s3im_fall": Differs(0.0, 1.0),
    "sampling": Differs("pixels", "crops"),
    "steps": Differs(3, 4),
    "batch_size": Differs(64, 100),
    "lr": Differs(0.05, 0.1),
    "precision": Differs("float32", "float64"),
}
# A classifier of few steps takes some of what an untrained flow makes for a 4; of fewer steps, it takes nothing for it.
SOME = {"wanted": 4, "classifier_steps": 100}
REWARDED = {"wanted": 4, "classifier_steps": 130, "groups": 16, "same_noise": False}
"""Where some samples of a flow that is hardly trained are rewarded, and some are not."""
ALIGNMENT = {
    "data": Differs("digits", "moving-digits"),
    "wanted": Differs(3, 4),
    "wanted_size": Differs(4, 8),
    "model": Refused("wan", "model must be mlp with data digits, got wan"),
    "width": Differs(8, 9),
    "depth": Differs(1, 2),
    "flow_steps": Differs(2, 3),
    "classifier_steps": Differs(1, 100, {"wanted": 4}),
    "prm_steps": Differs(2, 3),
    "method": Differs("dance-grpo", "flow-grpo", {**REWARDED, "prm_steps": None}),
    "iterations": Differs(2, 3),
    "threshold": Differs(0.5, 1e-9, SOME),
    "stop_at_threshold": Differs(True, False, {**SOME, "threshold": 1e-9, "check_every": 1}),
    "check_every": Differs(1, 2, {**SOME, "threshold": 1e-9}),
    "groups": Differs(1, 2),
    "group_size": Differs(2, 4),
    "same_noise": Differs(False, True),
    "sampling_steps": Differs(3, 4),
    "shift": Differs(1.0, 2.0),
    "eta": Differs(0.4, 0.5),
    "orm_coef": Differs(0.5, 1.0, REWARDED),
    "prm_coef": Differs(0.5, 0.9),
    "prm_at": Differs("next", "delta"),
    "guidance": Differs(0.1, 0.2),
    "guidance_start": Differs(0, 1),
    "distill_coef": Differs(0.5, 1.0),
    "kl_coef": Differs(0.0, 1.0),
    "clip": Differs(1e-9, 1e-2),
    "timestep_fraction": Differs(0.5, 1.0),
    "updates": Differs(1, 2),
    "lr": Differs(1e-4, 2e-4),
    "precision": Differs("float32", "float64"),
    "test_samples": Differs(8, 9),
    "clips": Refused(2, "clips cannot be used with data digits, got 2"),
}
IDENTITY = {
    "data": Differs("moving-digits", "olivetti"),
    "test_clips": Differs(8, 12),
    "arm": Differs("always-on", "high-level", {"first_stage": None}),
    "p": Differs(0.2, 0.8),
    "first_stage": Differs(0.0, 1.0),
    "guidance": Differs("constant", "progress"),
    "scale": Differs(1.0, 2.0),
    "sampling_steps": Differs(2, 3),
    "steps": Differs(3, 4),
    "batch_size": Differs(4, 6),
    "lr": Differs(0.001, 0.01),
    "drop": Differs(0.0, 0.5),
    "width": Differs(8, 12),
    "depth": Differs(1, 2),
    "precision": Differs("float32", "float64"),
}
TABLE = {
    "alignment": ALIGNMENT,
    "classify": CLASSIFY,
    "control": CONTROL,
    "curve": CURVE,
    "field": FIELD,
    "gates": GATES,
    "graphs": GRAPHS,
    "identity": IDENTITY,
    "language": LANGUAGE,
    "pairs": PAIRS,
    "decentral": DECENTRAL,
    "pde": PDE,
    "spiking": SPIKING,
    "surrogate": SURROGATE,
}
SMALL_IMAGES = {"train_size": 64, "validation_size": 64, "test_size": 64, "batch_size": 16, "rounds": 2}
BASE: dict[str, dict[str, Any]] = {
    "alignment": {
        **{
            "flow_steps": 3,
            "classifier_steps": 3,
            "prm_steps": 3,
            "width": 8,
            "depth": 1,
            "groups": 2,
            "group_size": 2,
        },
        **{"sampling_steps": 4, "iterations": 3, "test_samples": 8, "check_every": 3},
    },
    "classify": {**SMALL_IMAGES, "model": "mlp"},
    "control": {
        **{"env": "Short-v0", "steps": 12, "learning_starts": 3, "batch_size": 3, "width": 4},
        **{"episodes": 1, "test_episodes": 1},
    },
    "curve": {"data": "ud-galician-treegal", "step": 500, "train_size": 6000, "lookahead": 0},
    "field": {"batch_size": 64, "steps": 3, "size": 16},
    "gates": {**SMALL_IMAGES, "experts": 8, "gater_hidden": 4},
    "graphs": {"train_size": 8, "steps": 3, "samples": 2, "validation_samples": 2, "sampling_steps": 4},
    "identity": {
        **{"steps": 3, "batch_size": 4, "width": 8, "depth": 1, "sampling_steps": 2, "test_clips": 8},
        **{"first_stage": 0.3},
    },
    "language": {"files": ("known", "random"), "width": 16, "layers": 1, "context": 16, "batch_size": 8, "steps": 4},
    "pairs": {"train_size": 200, "steps": 3, "batch_size": 16},
    "decentral": {"machines": 3},
    "pde": {"dimensions": 4, "steps": 3, "points": 8, "width": 4, "test_points": 10},
    "spiking": {"hidden": 10, "train_size": 64, "validation_size": 8, "test_size": 8},
    "surrogate": {"calls": 3},
}
# A curve says nothing before it has several levels; others show what an option does within three steps.
STEPS = {"control": 6, "curve": 100}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, str]:
    """Two small domains: one of which every byte can be known, and one of random letters, four times as long."""
    folder = tmp_path_factory.mktemp("texts")
    letters = torch.randint(97, 105, (8000,), generator=Streams(0).generator("letters"), dtype=torch.uint8)
    (folder / "known.txt").write_bytes(b"ABCDEFGH" * 250)
    (folder / "random.txt").write_bytes(letters.numpy().tobytes())
    return {name: f"{name}={folder / name}.txt" for name in ("known", "random")}


def numbers(tree: Any) -> Iterator[bytes]:
    """All that a tree of containers holds, as bytes."""
    if isinstance(tree, Mapping):
        for name in sorted(tree):
            yield str(name).encode()
            yield from numbers(tree[name])
    elif isinstance(tree, (list, tuple)):
        for leaf in tree:
            yield from numbers(leaf)
    elif isinstance(tree, torch.Tensor):
        yield str(tree.dtype).encode() + tree.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    else:
        yield repr(tree).encode()


def built(recipe: Any) -> tuple[Any, Streams]:
    AcceleratorState._reset_state()
    streams = Streams(0)
    with streams.scope("init"):
        return recipe.task(streams, make_accelerator(getattr(recipe, "precision", "float32"))), streams


def fingerprint(recipe: Any, steps: int) -> str:
    """Digest of the budget, of some steps' metrics, of the weights after them, and of what evaluations say."""
    task, streams = built(recipe)
    seen: list[Any] = [dataclasses.asdict(task.budget)]
    progress = 0
    for batch in itertools.islice(task.train_batches(), steps):
        with streams.scope("step"):
            result = task.train_step(batch)
        seen += [dict(result.metrics), result.stop, result.examples]
        with streams.scope("evaluate"), torch.no_grad():
            seen.append(dict(task.evaluate("validation")))
        progress += result.progress
        if result.stop or progress >= task.budget.total:
            break
    with streams.scope("evaluate"), torch.no_grad():
        seen.append(dict(task.evaluate("test")))
    model = getattr(task, "model", None)
    if model is not None:
        seen.append(dict(model.state_dict()))
    if isinstance(task, GenerationTask):  # graphs, before they are rounded and measured
        samples, _ = task._shown
        seen.append([samples.x, samples.adj])
    digest = hashlib.sha256()
    for part in numbers(seen):
        digest.update(part)
    return digest.hexdigest()


def test_every_option_of_every_recipe_has_its_row():
    assert TABLE.keys() == BASE.keys() == registry.names().keys()
    for name, rows in TABLE.items():
        assert rows.keys() == {field.name for field in dataclasses.fields(registry.resolve(name))}, name


def test_few_are_not_shown():
    reasons = {(name, option) for name, rows in TABLE.items() for option, row in rows.items() if type(row) is NotShown}
    assert reasons == {("classify", "shard"), ("classify", "compile"), ("language", "shard"), *DECENTRAL_NOT_SHOWN}


def rows_of(kind: type) -> list[Any]:
    return [
        pytest.param(name, option, row, id=f"{name}-{option}")
        for name, rows in TABLE.items()
        for option, row in rows.items()
        if type(row) is kind
    ]


@pytest.fixture(scope="module")
def found():
    """The fingerprints of the recipes that were run before: rows share the setting that one option is changed in."""
    return {}


@pytest.mark.parametrize(("name", "option", "row"), rows_of(Differs))
def test_option_changes_something(name, option, row, texts, found, request):
    if name == "spiking":
        request.getfixturevalue("compiled_kernels")
    cls = registry.resolve(name)
    recipes = []
    for value in (row.one, row.other):
        options = {**BASE[name], **row.where, option: value}
        if "files" in options:
            options["files"] = tuple(texts[file] for file in options["files"])
        recipes.append(cls(**options))
        if repr(recipes[-1]) not in found:
            found[repr(recipes[-1])] = fingerprint(recipes[-1], STEPS.get(name, 3))
    assert recipes[0] != recipes[1]
    assert found[repr(recipes[0])] != found[repr(recipes[1])]


@pytest.mark.parametrize(("name", "option", "row"), rows_of(Refused))
def test_option_is_refused(name, option, row):
    cls = registry.resolve(name)
    with pytest.raises(ValueError, match=row.line):
        built(cls(**{**BASE[name], option: row.value}))


@pytest.mark.usefixtures("compiled_kernels")
def test_a_fingerprint_is_the_same_twice(texts, found):
    """What differs above differs by the option, however much was run in between."""
    for name in TABLE:
        options = dict(BASE[name])
        if "files" in options:
            options["files"] = tuple(texts[file] for file in options["files"])
        recipe, steps = registry.resolve(name)(**options), STEPS.get(name, 3)
        before = found.get(repr(recipe)) or fingerprint(recipe, steps)
        assert fingerprint(recipe, steps) == before, name
