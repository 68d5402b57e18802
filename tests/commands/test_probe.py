"""``aleator probe``: what it says of a task, and what it refuses in one line."""

import itertools
import re

import pytest
import torch
from torch.nn import functional as F

from aleator.cli import main
from aleator.experiment import registry
from aleator.experiment.accelerators import make_accelerator
from aleator.optim import max_lr
from aleator.random import Streams
from aleator.recipes.classify import Classify

SMALL = ("--train-size", "200", "--examples", "128", "--batch-size", "16")


@pytest.fixture
def probe(tmp_path, monkeypatch, capsys):
    """Run the command; returns exit code, output and the line on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        code = main(["probe", *args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.removeprefix("aleator: ").strip()

    return run


def built(recipe):
    streams = Streams(0)
    with streams.scope("init"):
        return recipe.task(streams, make_accelerator())


def row(out: str, name: str) -> list[str]:
    return re.split(r"  +", re.search(rf"^{re.escape(name)}  +(.*)$", out, flags=re.MULTILINE)[1].strip())


def test_the_numbers_are_those_of_the_task(probe):
    code, out, err = probe("classify", *SMALL, "--after", "0", "--momentum", "0")
    assert (code, err) == (0, "")
    task = built(Classify(train_size=200, batch_size=16))
    assert out.startswith("Hessian of the loss of classify")
    assert row(out, "trained numbers") == [f"{sum(p.numel() for p in task.model.parameters()):,}"]
    assert row(out, "examples looked at") == ["128 of 200"]
    top = float(row(out, "largest eigenvalue")[0])
    stable = {int(size): float(rate) for size, rate in re.findall(r"^(\d+) +([\d.]+)$", out, flags=re.MULTILINE)}
    assert list(stable) == [2**k for k in range(8)]
    assert max(stable.values()) < 2 / top  # the limit without noise
    assert sorted(stable.values()) == list(stable.values())
    critical = float(row(out, "critical batch")[0])
    for size, rate in stable.items():
        assert rate == pytest.approx(max_lr(top, critical * top**2, size, 200), rel=0.01)
    batch, lr = re.search(r"batch (\d+), learning rate ([\d.]+)", out).groups()
    assert float(lr) == pytest.approx(stable[int(batch)] / 10, rel=0.01)
    assert "look again with --after" in out


def test_it_looks_again_after_some_steps_and_draws(probe, tmp_path):
    code, out, err = probe("classify", *SMALL, "--after", "5", "--plot", "p.html")
    assert (code, err) == (0, "")
    start, later = row(out, "largest eigenvalue")
    assert start != later
    assert "Nesterov's momentum 0.9" in out
    page = (tmp_path / "p.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Largest stable learning rate" in page
    assert later in page


def test_probing_changes_nothing_of_the_training():
    """The same seed, with and without looks in between, has the same weights after some steps."""

    def trained(looks: bool) -> torch.Tensor:
        task = built(Classify(train_size=64, batch_size=16, model="cnn-bn"))
        for batch in itertools.islice(task.train_batches(), 4):
            if looks:
                with task.aside("probe") as model:
                    model.train()
                    for given in task.probe_batches():
                        task.per_sample_loss(model, given).sum().backward()
            task.train_step(batch)
        return torch.cat([value.double().flatten() for value in task.model.state_dict().values()])

    assert torch.equal(trained(False), trained(True))


def test_losses_of_examples_have_the_mean_of_the_task(probe):
    task = built(Classify(train_size=50, batch_size=16))
    task.model.eval()
    batches = list(task.probe_batches())
    assert [len(targets) for _, targets in batches] == [16, 16, 16, 2]
    inputs, targets = batches[0]
    found = task.per_sample_loss(task.model, batches[0])
    expected = F.cross_entropy(task.model(task.prepared_inputs(inputs)), targets, reduction="none")
    assert torch.equal(found, expected)
    seen = torch.cat([inputs.flatten(1) for inputs, _ in batches]).unique(dim=0)
    assert len(seen) == len(torch.as_tensor(task.train.inputs).flatten(1).unique(dim=0))


RECIPES = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
from aleator.recipes import Supervised

@dataclass(frozen=True)
class Tokens(Supervised):
    def splits(self, streams):
        x = torch.randint(20, (60, 5), generator=torch.Generator().manual_seed(0))
        y = (x >= 10).long().masked_fill(torch.arange(5) >= 1 + x[:, :1] % 5, -1)
        return {name: (x[i::3], y[i::3]) for i, name in enumerate(("train", "validation", "test"))}

    def network(self, splits):
        return nn.Sequential(nn.Embedding(20, 4), nn.Linear(4, 2))

    def losses(self, outputs, targets):
        return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none", ignore_index=-1), targets != -1

    def metrics(self, outputs, targets):
        return {}

@dataclass(frozen=True)
class Pulled(Tokens):
    def objective(self, model, batch, noise):
        return model(batch[0]).square().mean()
"""


def test_losses_with_counts_have_the_mean_over_their_parts(probe, tmp_path):
    (tmp_path / "mine.py").write_text(RECIPES)
    code, _, err = probe("mine.py:Tokens", "--batch-size", "5", "--after", "2")
    assert (code, err) == (0, "")
    task = built(registry.resolve("mine.py:Tokens")(batch_size=20))
    ((inputs, targets),) = task.probe_batches()
    whole = F.cross_entropy(task.model(inputs).transpose(1, 2), targets, ignore_index=-1)
    assert task.per_sample_loss(task.model, (inputs, targets)).mean().item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("spiking",), r"recipe spiking cannot be probed: its task has no per_sample_loss and no probe_batches"),
        (("classify", "--examples", "3"), r"examples must be at least 4, got 3"),
        (("classify", "--after", "-1"), r"after must not be negative, got -1"),
        (("classify", "--plot", "p.png"), r"plot must end in .html .*, got p.png"),
        (("classify", "--seed", "-1"), r"seed must be at least 0, got -1"),
        (("classify", "--lr", "0"), r"lr must be positive and finite, got 0"),
        (("clasify",), r"clasify"),
        ((), r"RECIPE is missing, write aleator probe RECIPE"),
        (("mine.py:Pulled", "--batch-size", "5"), r"Pulled has an objective, which has no loss for each example"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(probe, tmp_path, args, line):
    (tmp_path / "mine.py").write_text(RECIPES)
    code, _, err = probe(*args)
    assert code == 2
    assert re.search(line, err)
    assert "\n" not in err
