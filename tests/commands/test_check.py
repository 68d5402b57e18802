"""``aleator check``: a recipe with a fault is told which; one without is told what it can use."""

import pytest
import torch

from aleator.cli import main

RECIPE = '''
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from aleator.experiment import Budget, Headline, StepResult


class Task:
    def __init__(self):
        self.budget, self.headline = Budget({total}), Headline("loss", "min")
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.data, self.at = torch.eye(3), 0

    def train_batches(self):
        while True:
            yield {batch}
            self.at += 1

    def train_step(self, batch):
        loss = self.model(batch).square().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        {then}
        return StepResult({{"loss": loss.detach()}})

    def evaluate(self, split):
        return {{"loss": float(self.model(self.data).square().sum())}}

    def state_dict(self):
        return {{{kept}}}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        for name, part in (("optimizer", self.optimizer),):
            if name in state:
                part.load_state_dict(state[name])
        self.at = state.get("at", 0)


@dataclass(frozen=True)
class Mine:
    """A recipe without parts."""

    def task(self, streams, accelerator):
        return Task()
'''

SOUND = {
    "total": 20,
    "batch": "self.data[[self.at % 3]]",
    "then": "pass",
    # A batch is yielded before `at` moves on, and the state is of the batches that were consumed.
    "kept": '"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "at": self.at + 1',
}
WITHOUT_POSITION = '"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()'
WITHOUT_MOMENTUM = '"model": self.model.state_dict(), "at": self.at + 1'


@pytest.fixture
def checked(tmp_path, capsys, monkeypatch):
    """Check a recipe with some lines changed; return the exit code and what was said."""
    monkeypatch.chdir(tmp_path)

    def check(**changed):
        (tmp_path / "mine.py").write_text(RECIPE.format(**{**SOUND, **changed}))
        code = main(["check", "mine.py:Mine"])
        return code, capsys.readouterr()

    return check


def test_a_sound_recipe_resumes_exactly(checked):
    code, said = checked()
    assert (code, said.err) == (0, "")
    assert "builds            20 steps; headline loss, lower is better" in said.out
    assert "broken off before step 3 and resumed, it takes the same steps" in said.out
    assert "FAULT" not in said.out


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"kept": WITHOUT_POSITION},
            "resumes           FAULT: the batches of step 3 after a resume and without one differ: state_dict() has to",
        ),
        (
            {"kept": WITHOUT_MOMENTUM},
            "resumes           FAULT: model.bias, model.weight after step 3 after a resume and without one differ: "
            "state_dict() or load_state_dict() leaves out something",
        ),
        (
            {"batch": "self.data[np.random.randint(3, size=2)] + float(np.random.rand())"},
            "repeats           FAULT: the batches of step 1 of two runs with the same seed differ: something draws",
        ),
        (
            {"then": "self.model.bias.data += float(np.random.rand())"},
            "repeats           FAULT: model.bias",
        ),
        ({"total": 3}, "resumes           FAULT: not tried: the run has 3 steps and needs 4"),
        (
            {"then": "self.model.wieght"},
            "runs              FAULT: AttributeError: 'Linear' object has no attribute 'wieght' (mine.py:28)",
        ),
        ({"then": "loss.fill_(1.0); return None"}, "runs              FAULT: "),
    ],
    ids=["position", "momentum", "foreign batches", "foreign noise", "short", "error", "no result"],
)
def test_a_fault_is_named(checked, changed, fault):
    code, said = checked(**changed)
    assert code == 1
    assert fault in said.out
    assert said.out.count("FAULT") == 1
    assert said.err == "aleator: mine.py:Mine has a fault; see above\n"


def test_a_state_that_forgets_its_sampler_is_named_with_its_line(checked):
    code, said = checked(kept=WITHOUT_POSITION)
    line = 1 + RECIPE.partition("def state_dict")[0].count("\n")
    assert said.out.rstrip().endswith(f" (state_dict in mine.py:{line})")
    assert code == 1


def test_options_that_cannot_work_are_bad_input_with_their_line(checked, capsys):
    code, said = checked(total='3), 1 / 0 if False else int("x"')
    assert code == 2
    assert said.err == "aleator: invalid literal for int() with base 10: 'x' (mine.py:13)\n"


def test_methods_of_a_supervised_recipe_are_tried(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", lambda forward: forward)  # which takes longer than all the rest
    assert main(["new", "mine.py"]) == 0
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace("nn.Linear(", "Odd(") + ODD)
    capsys.readouterr()
    assert main(["check", "mine.py:MyRecipe", "--optimizer", "adamw"]) == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()[1:]}
    assert lines["Subset"] == "applies: --subset rs2 --ratio 0.1"
    assert lines["Curvature"] == "does not apply: lr_rule curvature cannot be used with optimizer adamw"
    assert lines["Mixture"] == "does not apply: mixture_schedule cannot be used with data that have no groups"
    assert lines["Tract"].startswith("does not apply: ")
    assert lines["AdaptiveBatch"] == "applies: --batch-test norm --max-batch-size 256"
    assert lines["Compile"] == "applies: --compile"


ODD = '''

class Odd(nn.Module):
    """A layer that TrAct does not know."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)

    def forward(self, x):
        """Return the product."""
        return x @ self.weight
'''
