"""A task that works with others: it is told when to meet them, may ask whether to stop, and where it meets is no option
that decides its numbers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from aleator.experiment import Budget, Headline, Interrupted, RunOptions, StepResult, run
from aleator.experiment.identity import decisive_options, identity

NAME = f"{__file__}:Meets"
OPTIONS = RunOptions(trackers=(), log_every=1, checkpoint_seconds=0)


class MeetingTask:
    headline = Headline("accuracy")

    def __init__(self, place: str, waits_at: int | None) -> None:
        self.place, self.waits_at = place, waits_at
        self.budget = Budget(4, "rounds")
        self.done, self.course = 0, ["built"]
        self.stop_requested: Callable[[], bool] = lambda: False
        self.model = torch.nn.Linear(1, 1)

    def begin(self):
        if self.place == "nowhere":
            raise ValueError("place must be somewhere, got nowhere")
        self.course.append(f"begin at {self.done}")
        COURSES.append(self.course)

    def train_batches(self):
        self.course.append("batches")
        while True:
            yield self.done

    def train_step(self, batch):
        if batch == self.waits_at:
            os.kill(os.getpid(), signal.SIGTERM)
            until = time.monotonic() + 10
            while not self.stop_requested():
                assert time.monotonic() < until, "the task was not told of the request"
            return StepResult(progress=0)
        self.done += 1
        return StepResult()

    def evaluate(self, split):
        return {"accuracy": float(self.done)}

    def state_dict(self) -> dict[str, Any]:
        self.course.append("state")
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


@dataclass(frozen=True)
class Meets:
    """Meet others."""

    place: str = field(default="here", metadata={"decisive": False})
    """Where."""
    waits_at: int | None = field(default=None, metadata={"decisive": False})
    """Wait for ever in this round."""
    weight: int = 1
    """An option that decides something."""

    def task(self, streams, accelerator):
        return MeetingTask(self.place, self.waits_at)


COURSES: list[list[str]] = []


@pytest.fixture(autouse=True)
def _no_courses():
    COURSES.clear()


def test_a_task_meets_others_once_and_before_its_first_batch(tmp_path):
    run(Meets(), tmp_path, OPTIONS, name=NAME)
    ((first, *rest),) = [[step for step in course if step != "state"] for course in COURSES]
    assert (first, rest) == ("built", ["begin at 0", "batches"])


def test_a_request_to_stop_reaches_a_step_that_waits_and_the_resume_meets_elsewhere(tmp_path):
    with pytest.raises(Interrupted, match="interrupted at 2 rounds; the state is saved"):
        run(Meets(waits_at=2), tmp_path, OPTIONS, name=NAME)
    result = run(Meets(place="there"), tmp_path, OPTIONS, name=NAME, resume=True)
    assert result["progress"] == 4
    assert [course[1:2] for course in COURSES][1] == ["begin at 2"]


def test_a_finished_run_meets_nobody(tmp_path):
    run(Meets(), tmp_path, OPTIONS, name=NAME)
    (tmp_path / "model.safetensors").unlink()
    run(Meets(place="nowhere"), tmp_path, OPTIONS, name=NAME, resume=True)
    assert len(COURSES) == 1
    assert (tmp_path / "model.safetensors").exists()


def test_a_place_that_cannot_be_is_bad_input_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="place must be somewhere, got nowhere"):
        run(Meets(place="nowhere"), tmp_path / "run", OPTIONS, name=NAME)
    assert not (tmp_path / "run" / "config.json").exists()


def test_identity_is_of_the_options_that_decide_the_numbers():
    assert decisive_options(Meets()) == {"weight": 1}
    assert identity(NAME, Meets(), OPTIONS) == identity(NAME, Meets(place="there"), OPTIONS)
    assert identity(NAME, Meets(), OPTIONS) != identity(NAME, Meets(weight=2), OPTIONS)
