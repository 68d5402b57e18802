"""Carries out the golden runs in one process or in several, and writes what came out of each.

    python program.py OUT MODES…            (or under torchrun)

Modes are ``straight``, ``float64`` and ``first64``: float64 for the first set of each recipe alone. Several processes
carry out the sets whose step differs with their number.
"""

import hashlib
import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from aleator.experiment import RunOptions, run

IMAGES = {"train_size": 200, "test_size": 100, "rounds": 2, "batch_size": 16}
SUBSET = {**IMAGES, "ratio": 0.3, "rounds": 5}
GATES = {**IMAGES, "experts": 64, "gater_hidden": 16}
TEXT = {"steps": 14, "context": 24, "batch_size": 8, "width": 32, "layers": 1, "heads": 2, "eval_bytes": 2000}
TWO = {**TEXT, "files": ("one=one.txt", "two=two.txt")}
ONE = {**TEXT, "files": ("one=one.txt",)}
HOURGLASS = {"steps": 14, "context": 24, "batch_size": 8, "width": 32, "heads": 2, "eval_bytes": 2000}

# Options by the name of a set. What ends in 16 has no twin in float64.
SETS = {
    "classify": {
        "plain": IMAGES,
        "static": {**SUBSET, "subset": "static"},
        "rs2": {**SUBSET, "subset": "rs2"},
        "rs2-with-replacement": {**SUBSET, "subset": "rs2-with-replacement"},
        "rs2-stratified": {**SUBSET, "subset": "rs2", "stratified": True},
        "tract": {**IMAGES, "first_layer": "tract"},
        "tract-adamw": {**IMAGES, "first_layer": "tract", "optimizer": "adamw"},
        "tract-accumulate": {
            **IMAGES,
            "first_layer": "tract",
            "accumulate": 2,
            "model": "cnn-bn",
            "first_layer_lr_ratio": 0.5,
        },
        "surrogate": {**IMAGES, "surrogate": 2, "lr": 0.01},
        "surrogate-adamw": {**IMAGES, "surrogate": 2, "optimizer": "adamw", "lr": 0.001, "target_step_size": 1.0},
        "surrogate-tract-augmented": {
            **IMAGES,
            "surrogate": 2,
            "lr": 0.01,
            "first_layer": "tract",
            "augment": "flip-crop",
            "model": "cnn",
        },
        "accumulate-clipped": {**IMAGES, "accumulate": 3, "max_grad_norm": 0.5},
        "mixed16": {**IMAGES, "precision": "bfloat16"},
        "lamb": {**IMAGES, "optimizer": "lamb", "model": "cnn"},
        "lars-linear": {**IMAGES, "optimizer": "lars", "schedule": "linear", "warmup": 3.0},
        "spectra": {**IMAGES, "optimizer": "spectra-adamw", "warmup": 0.2},
        "compressed": {**SUBSET, "schedule_length": "compressed"},
    },
    "gates": {
        "st": GATES,
        "relaxed": {**GATES, "gate": "relaxed", "optimizer": "adamw", "lr": 0.01},
        "sbn": {**GATES, "gate": "sbn", "gater_lr_ratio": 0.5},
        "noisy-relu": {**GATES, "gate": "noisy-relu"},
        "sts-blocks": {**GATES, "gate": "sts", "block": 16, "max_grad_norm": 1.0},
        "dense": {**GATES, "gate": "dense"},
        "none": {**IMAGES, "experts": 64, "gate": "none", "max_norm": None},
    },
    "language": {
        "plain": ONE,
        "gru-accumulate": {**ONE, "heads": None, "model": "gru", "accumulate": 3, "optimizer": "spectra-adamw"},
        "cooldown": {**TWO, "mixture_schedule": "cooldown"},
        "scalarization": {**TWO, "temperature": 5.0, "weighting": "scalarization", "normalize": "weights"},
        "iid": {**TWO, "allocation": "iid", "optimizer": "lamb"},
        "magnet": {**HOURGLASS, "files": TWO["files"], "tokenization": "magnet", "accumulate": 2},
        "dtp": {**HOURGLASS, "files": ONE["files"], "tokenization": "dtp"},
    },
}

SHARED = {
    "classify": ("plain", "rs2", "tract-accumulate", "surrogate", "accumulate-clipped", "mixed16"),
    "gates": ("sbn", "sts-blocks"),
    "language": ("cooldown", "magnet"),
}


def class_of(recipe: str) -> type:
    return getattr(import_module(f"aleator.recipes.{recipe}"), recipe.capitalize())


def main(out: Path, modes: list[str]) -> None:
    rank, processes = os.environ.get("RANK", "0"), int(os.environ.get("WORLD_SIZE", "1"))
    os.chdir(out)
    found = {}
    for recipe, sets in SETS.items():
        carried = list(sets) if processes == 1 else SHARED[recipe]
        for name in carried:
            runs = {"straight": sets[name], "float64": {**sets[name], "precision": "float64"}}
            asked = [mode.replace("first", "float") for mode in modes if mode != "first64" or name == carried[0]]
            for mode in asked if not name.endswith("16") else ["straight"]:
                folder = out / f"{recipe}-{name}-{mode}-{processes}"
                batches = carried_out(class_of(recipe), runs[mode], folder, recipe)
                found[f"{recipe}/{name}/{mode}"] = figures(folder, mode == "float64") | {"batches": batches}
    (out / f"found-{processes}-{rank}.json").write_text(json.dumps(found, indent=1))
    if processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def carried_out(kind: type, options: dict, folder: Path, recipe: str) -> str:
    """Carry out a run, and return a digest of the batches that this process saw."""
    digest = hashlib.sha256()
    AcceleratorState._reset_state()  # a process has one precision otherwise

    class Watched(kind):
        def task(self, streams, accelerator):
            task = super().task(streams, accelerator)
            step = task.train_step

            def train_step(batch):
                for tensor in learned_from(batch):
                    digest.update(tensor.contiguous().numpy().tobytes())
                return step(batch)

            task.train_step = train_step
            return task

    run(Watched(**options), folder, RunOptions(trackers=(), log_every=4, checkpoint_seconds=1e9), name=recipe)
    return digest.hexdigest()


def learned_from(batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the inputs and the targets of a batch, or the windows and their domains."""
    for names in (("inputs", "targets"), ("bytes", "domains")):
        if all(hasattr(batch, name) for name in names):
            return tuple(getattr(batch, name) for name in names)
    return batch[0], batch[1]


def figures(folder: Path, numbers: bool) -> dict:
    """Return a digest of the weights and the metrics; or numbers that other processors compute to rounding."""
    result = json.loads((folder / "result.json").read_text())
    weights = load_file(folder / "model.safetensors")
    found = {"steps": result["steps"], "validation": result["validation"], "test": result["test"]}
    if numbers:
        return found | {"weights": {name: float(weights[name].double().abs().sum()) for name in sorted(weights)}}
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return found | {"weights": digest.hexdigest()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
