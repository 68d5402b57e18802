"""The run loop: from a recipe to a folder of results.

    build the task; resume?; for each batch: step, log, evaluate, save; evaluate on test; write result.json

The loop owns time, files and signals; the task owns mathematics. Everything that decides the numbers is in the
checkpoint: the task, the position and state of every random stream, the metrics gathered since the last log line. A run
that was killed and resumed therefore ends bit-identical to one that was not, on the same CPU type, torch version and
number of threads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed.tensor import DTensor

from aleator.experiment import registry
from aleator.experiment.agreement import Agreement
from aleator.experiment.checkpoint import CheckpointStore
from aleator.experiment.files import read_json, write_json
from aleator.experiment.identity import environment, identity, options_of
from aleator.experiment.model_state import model_state
from aleator.experiment.options import RunOptions
from aleator.experiment.progress import ProgressDisplay, progress_display
from aleator.experiment.protocol import Split, Task
from aleator.experiment.signals import Interrupted, StopRequests
from aleator.experiment.tracking import MetricLog, require
from aleator.random import Streams

_log = logging.getLogger("aleator.experiment")

# What the processes of a run agree on after every step; the most urgent wins.
_GO_ON, _SAVE, _LEAVE = 0, 1, 2


class RunFailed(Exception):
    """A run broke after it had begun: what the recipe or the machine did, and not what was asked for, is the cause."""


class NonFiniteLoss(RunFailed):
    """A loss was not finite; the optimizer did not step."""


def run(
    recipe: Any,
    out: Path,
    options: RunOptions | None = None,
    *,
    name: str,
    resume: bool = False,
    size: int | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Carry out one run and return the content of its ``result.json``.

    Args:
        recipe: a recipe, see `aleator.experiment.protocol`.
        out: the run's folder.
        options: how to run; the defaults of `RunOptions`.
        name: what `registry.resolve` finds the recipe's class under.
        resume: continue from the newest checkpoint in ``out``. A finished run is returned as it is.
        size: the training size that a comparison set, for the record.
        command: for the record; default: this process's own.

    Raises:
        ValueError: for options that cannot work, before anything is written.
        Interrupted: on SIGINT or SIGTERM, after the state was saved.
        RunFailed: for any error after that; the error itself is its cause.
        NonFiniteLoss: when a loss is not finite and ``options.non_finite`` is ``"stop"``. A `RunFailed`, too.
    """
    options = options or RunOptions()
    with _threads(options.threads):
        with _failures(except_for=(ValueError, OSError, ImportError)):
            spec = registry.absolute(name)
            under_way = _Run(recipe, Path(out), options, spec, resume, size, command or sys.argv)
        return under_way.finish()


def make_accelerator(precision: str = "float32") -> Accelerator:
    """Return the accelerator of a run: the GPU where there is one, else the CPU.

    Raises:
        ValueError: if the precision is unknown or this machine does not have it.
        RuntimeError: if the launcher started several processes that did not find each other.
    """
    mixed = {"float32": "no", "float64": "no", "bfloat16": "bf16", "float16": "fp16"}
    if precision not in mixed:
        raise ValueError(f"precision must be one of {', '.join(mixed)}, got {precision!r}")
    on_cpu = not torch.cuda.is_available()
    if precision == "float16" and on_cpu:
        raise ValueError("precision float16 needs a GPU, and there is none here (bfloat16 works on the CPU)")
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=mixed[precision])
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise RuntimeError(
            f"the launcher started {launched} processes, but {accelerator.num_processes} found each other"
        )
    return accelerator


class _Run:
    """One run under way."""

    def __init__(
        self,
        recipe: Any,
        out: Path,
        options: RunOptions,
        name: str,
        resume: bool,
        size: int | None,
        command: list[str],
    ) -> None:
        self.out, self.options, self.name, self.resume = out, options, name, resume
        self.began = time.perf_counter()
        self.identity = identity(name, recipe, options, size)
        self._check_folder()
        require(options.trackers)
        self.accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
        self.rank = self.accelerator.process_index
        self.main = self.accelerator.is_main_process
        if not self.main:  # what all processes have to say is said once
            logging.getLogger("aleator").setLevel(logging.ERROR)
        self.agreement = Agreement(self.accelerator.num_processes)
        self.streams = Streams(options.seed, self.accelerator.device)
        with self.streams.scope("init"):
            self.task: Task = recipe.task(self.streams, self.accelerator)
        self.store = CheckpointStore(out / "checkpoints", options.keep_checkpoints)
        self.every = options.evaluate_every or getattr(self.task, "evaluate_every", None) or _twentieth(self.task)
        self.config = {
            "recipe": name,
            "options": options_of(recipe),
            "seed": options.seed,
            "threads": options.threads,
            "size": size,
            "loop": options_of(options),
            "identity": self.identity,
            "budget": {"total": self.task.budget.total, "unit": self.task.budget.unit},
            "headline": {"name": self.task.headline.name, "direction": self.task.headline.direction},
            "source_sha256": registry.source_sha256(name),
            "command": command,
            "processes": self.accelerator.num_processes,
            **environment(),
            "created": _now(),
        }
        # What training changes, besides the task and the streams.
        self.step = self.progress = self.examples = self.skipped = 0
        self.sums: dict[str, torch.Tensor] = {}
        self.summed = 0
        self.best: dict[str, Any] | None = None
        self.latest: dict[str, float] = {}
        self.seconds = {"train": 0.0, "evaluate": 0.0, "checkpoint": 0.0}
        self.stopped: str | None = None

    # --- the course of a run ---------------------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        result_path = self.out / "result.json"
        if self.resume and result_path.exists():
            _log.info("%s is already finished", self.out)
            return read_json(result_path)
        restored = self._restore() if self.resume else False
        log = None
        if self.main:
            if not restored:
                self.out.mkdir(parents=True, exist_ok=True)
                write_json(self.out / "config.json", self.config)
            keep = self.step if restored else None
            log = MetricLog(self.out, self.accelerator, self.options.trackers, self.config["options"], keep)
        with _failures(), contextlib.closing(log) if log is not None else contextlib.nullcontext():
            with StopRequests(_say_stopping, _leave_at_once) as stop, self._display() as display:
                self._train(log, display, stop)
            return self._conclude(self._evaluate("test", log))

    def _train(self, log: MetricLog | None, display: ProgressDisplay, stop: StopRequests) -> None:
        total = self.task.budget.total
        saved_at = mark = time.perf_counter()
        batches = iter(self.task.train_batches())
        while self.stopped is None and (total is None or self.progress < total):
            try:
                batch = next(batches)
            except StopIteration:
                self.stopped = "the task has no more batches"
                break
            with self.streams.scope("step", rank=self.rank):
                result = self.task.train_step(batch)
            self.step += 1
            before, self.progress = self.progress, self.progress + result.progress
            self.examples += result.examples
            self.stopped = result.stop
            if result.skipped:
                self._skip()
            else:
                for key, value in result.metrics.items():
                    self.sums[key] = self.sums[key] + value.detach() if key in self.sums else value.detach().clone()
                self.summed += 1
            display.advance(self.progress)
            if self.step % self.options.log_every == 0:
                self.seconds["train"] += -mark + (mark := time.perf_counter())
                self._log_training(log)
            done = self.stopped is not None or (total is not None and self.progress >= total)
            if done or before // self.every != self.progress // self.every:
                self.seconds["train"] += -mark + time.perf_counter()
                self.latest = self._evaluate("validation", log)
                display.evaluated(self.progress, _readable(self.latest, self.task.headline.name))
                mark = time.perf_counter()
            due = time.perf_counter() - saved_at >= self.options.checkpoint_seconds
            wish = _LEAVE if stop.count else _SAVE if due and self.main else _GO_ON
            agreed = self.agreement.maximum(wish)
            if agreed != _GO_ON or done:
                self.seconds["train"] += -mark + time.perf_counter()
                self._save()
                saved_at = mark = time.perf_counter()
            if agreed == _LEAVE and not done:
                raise Interrupted(f"interrupted at {self.progress} {self.task.budget.unit}; the state is saved")

    def _conclude(self, test: dict[str, float]) -> dict[str, Any]:
        weights = self._weights()
        total = time.perf_counter() - self.began
        result = {
            "status": "done",
            "stopped": self.stopped,
            "recipe": self.name,
            "seed": self.options.seed,
            "unit": self.task.budget.unit,
            "steps": self.step,
            "progress": self.progress,
            "examples": self.examples,
            "headline": self.config["headline"],
            "validation": self.latest,
            "test": test,
            "best_validation": self.best,
            "seconds": {**self.seconds, "total": total},
            "peak_memory_bytes": _peak_memory(self.accelerator.device),
            "device": str(self.accelerator.device),
            "skipped_steps": self.skipped,
            "finished": _now(),
        }
        if self.main:
            if weights is not None:
                from safetensors.torch import save

                from aleator.experiment.files import write_bytes

                write_bytes(self.out / "model.safetensors", save(weights))
            write_json(self.out / "result.json", result)
            if self.options.keep_checkpoints == 0:
                self.store.remove()
        self.accelerator.wait_for_everyone()
        return result

    # --- its parts -------------------------------------------------------------------------------------------------

    def _skip(self) -> None:
        self.skipped += 1
        if self.options.non_finite == "stop":
            raise NonFiniteLoss(
                f"the loss of step {self.step} is not finite; the optimizer did not step "
                f"(non_finite='skip' leaves such steps out and counts them)"
            )

    def _log_training(self, log: MetricLog | None) -> None:
        means = {}
        for key, value in self.sums.items():
            mean = self.accelerator.reduce(value.double() / max(self.summed, 1), reduction="mean")
            means[key] = float(mean)
        if self.skipped:
            means["skipped_steps"] = float(self.skipped)
        self.sums, self.summed = {}, 0
        if log is not None:
            log.write(self._row("train", means))

    def _evaluate(self, split: Split, log: MetricLog | None) -> dict[str, float]:
        began = time.perf_counter()
        with self.streams.scope("evaluate", rank=self.rank), torch.no_grad():
            metrics = {name: float(value) for name, value in self.task.evaluate(split).items()}
        self.seconds["evaluate"] += time.perf_counter() - began
        headline = self.task.headline
        if headline.name not in metrics:
            raise ValueError(
                f"evaluate({split!r}) must return the headline {headline.name!r}, got {', '.join(metrics)}"
            )
        if log is not None:
            log.write(self._row(split, metrics))
        if split == "validation" and math.isfinite(metrics[headline.name]):
            best = self.best["metrics"][headline.name] if self.best else None
            if best is None or headline.better(metrics[headline.name], best):
                self.best = {"step": self.step, "progress": self.progress, "metrics": metrics}
        return metrics

    def _row(self, split: str, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {
            "step": self.step,
            "progress": self.progress,
            "examples": self.examples,
            "seconds": round(self.seconds["train"], 6),
            "split": split,
            "metrics": dict(metrics),
        }

    def _display(self) -> contextlib.AbstractContextManager[ProgressDisplay]:
        return progress_display(self.task.budget.total, self.task.budget.unit, self.progress)

    # --- saving and restoring --------------------------------------------------------------------------------------

    def _save(self) -> None:
        began = time.perf_counter()
        streams = [self.streams.state_dict()]
        if self.accelerator.num_processes > 1:
            streams = gather_object(streams)
        task = self.task.state_dict()
        self._refuse_non_finite(task)
        self.seconds["checkpoint"] += time.perf_counter() - began
        state = {
            "identity": self.identity,
            "task": task,
            "streams": streams,
            "step": self.step,
            "progress": self.progress,
            "examples": self.examples,
            "skipped": self.skipped,
            "sums": self.sums,
            "summed": self.summed,
            "best": self.best,
            "latest": self.latest,
            "seconds": dict(self.seconds),
        }
        if self.main:
            self.store.save(self.step, state)
            self.seconds["checkpoint"] += time.perf_counter() - began

    def _restore(self) -> bool:
        state = self.store.load()
        if state is None:
            return False
        self.task.load_state_dict(state["task"])
        saved = state["streams"]
        # With more processes than were saved, the additional ones begin streams of their own.
        self.streams.load_state_dict(saved[self.rank] if self.rank < len(saved) else _shared(saved[0]))
        for key in ("step", "progress", "examples", "skipped", "summed", "best", "latest", "seconds"):
            setattr(self, key, state[key])
        self.sums = {key: value.to(self.accelerator.device) for key, value in state["sums"].items()}
        _log.info("resumed at %d %s", self.progress, self.task.budget.unit)
        return True

    def _weights(self) -> dict[str, torch.Tensor] | None:
        model = getattr(self.task, "model", None)
        if not isinstance(model, torch.nn.Module):
            return None
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        return {name: tensor.clone().contiguous() for name, tensor in model_state(model).items()}

    def _refuse_non_finite(self, task_state: dict[str, Any]) -> None:
        model = getattr(self.task, "model", None)
        tensors = list(model.parameters()) if isinstance(model, torch.nn.Module) else list(_tensors(task_state))
        finite = all(bool(torch.isfinite(_local(t)).all()) for t in tensors if t.is_floating_point())
        if self.agreement.maximum(int(not finite)):
            raise NonFiniteLoss(f"the weights after step {self.step} are not finite; they are not saved")

    def _check_folder(self) -> None:
        config_path = self.out / "config.json"
        if not config_path.exists():
            if self.resume:
                raise ValueError(f"there is no run to resume in {self.out}")
            if self.out.exists() and any(path.name != "run.log" for path in self.out.iterdir()):
                raise ValueError(f"the folder {self.out} is not empty and holds no run; choose another with --out")
            return
        config = read_json(config_path)
        if config["recipe"] != self.name:
            raise ValueError(f"{self.out} holds a run of recipe {config['recipe']!r}, not of {self.name!r}")
        if not self.resume:
            raise ValueError(f"{self.out} already holds a run; add --resume to continue it or choose another --out")
        if config["threads"] != self.options.threads:
            raise ValueError(
                f"threads must be {config['threads']} as in the run to resume, got {self.options.threads}: "
                f"another number changes the last bits"
            )
        if config["identity"] != self.identity:
            raise ValueError(f"the options differ from those of the run in {self.out} (see its config.json)")


def _say_stopping() -> None:
    _log.warning("stopping after this step and saving; Ctrl-C once more to leave at once")


def _leave_at_once() -> None:
    os._exit(128 + signal.SIGINT)


@contextlib.contextmanager
def _failures(except_for: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, (Interrupted, RunFailed, *except_for)):
            raise
        raise RunFailed(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _twentieth(task: Task) -> int:
    return max(1, task.budget.total // 20) if task.budget.total is not None else 1000


def _readable(metrics: Mapping[str, float], headline: str) -> str:
    others = [name for name in metrics if name not in (headline, "examples")]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in [headline, *others])


def _peak_memory(device: torch.device) -> int:
    """Return the most memory this process ever held, in bytes: the device's for a GPU, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _shared(state: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a process's stream states that all processes share."""
    shared = {kind: [entry for entry in state[kind] if "rank" not in entry["path"]] for kind in ("torch", "numpy")}
    return {"seed": state["seed"], **shared}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
