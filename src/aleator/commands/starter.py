"""A recipe of your own: change the model and the data, and compare.

Run it once, then compare three variants of it over five seeds:

    aleator run FILE:MyRecipe --epochs 5
    aleator compare FILE:MyRecipe --variant all --variant half:ratio=0.5 --variant small-step:lr=0.001 --seeds 5
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import InMemoryLoader, RepeatedRandomSampler
from aleator.experiment import Budget, GradientStep, Headline, StepResult
from aleator.random import Streams


@dataclass(frozen=True)
class MyRecipe:
    """Classify breast tumours as malignant or benign."""

    # Every field is an option: `--batch-size 64` on the command line, `name:batch_size=64` in a variant.
    epochs: int = 20
    """Passes over the training data. The number of steps does not depend on `ratio`."""
    batch_size: int = 32
    """Examples in a step."""
    lr: float = 0.01
    """Learning rate of AdamW."""
    ratio: float = 1.0
    """Draw a new random subset of this size, as a fraction of the training data, for every pass (RS2)."""
    train_size: int | None = None
    """Training examples, all there are by default; `aleator compare --sizes 100 200 300` sets this field."""

    def __post_init__(self) -> None:
        """Bad options end here, with a line for the person who gave them."""
        for name in ("epochs", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def task(self, streams: Streams, accelerator: Accelerator) -> "MyTask":
        """Build what is trained."""
        return MyTask(self, streams, accelerator)


class MyTask:
    """The model, the data, and how a step is taken."""

    # The metric that decides which variant is better, and its direction: "max" or "min".
    headline = Headline("accuracy", "max")

    def __init__(self, options: MyRecipe, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator

        # Your data. Streams(0) gives the same held-out examples to every seed; `streams` belongs to this run.
        inputs, targets = load_breast_cancer(return_X_y=True)
        x = torch.tensor(inputs, dtype=torch.float32, device=accelerator.device)
        y = torch.tensor(targets, device=accelerator.device)
        order = torch.randperm(len(x), generator=Streams(0).generator("split"))
        train, validation, test = order.tensor_split([int(0.7 * len(x)), int(0.85 * len(x))])
        size = len(train) if options.train_size is None else options.train_size
        if not 0 < size <= len(train):
            raise ValueError(f"train_size must be between 1 and {len(train)}, got {size}")
        train = train[:size]
        # A column that is the same in all training examples says nothing; divided by infinity it is 0 everywhere.
        least, most = x[train].aminmax(dim=0)
        x = (x - x[train].mean(0)) / torch.where(most > least, x[train].std(0), torch.inf)
        self.data = {
            "train": (x[train], y[train]),
            "validation": (x[validation], y[validation]),
            "test": (x[test], y[test]),
        }

        # Which examples a step sees. The sampler knows where it is, so that an interrupted run goes on exactly there.
        self.sampler = RepeatedRandomSampler(
            len(train),
            ratio=options.ratio,
            generator=streams.generator("data"),
            num_replicas=accelerator.num_processes,
            rank=accelerator.process_index,
        )
        self.batches = self.sampler.batches(options.batch_size)
        self.budget = Budget(options.epochs * max(1, len(train) // options.batch_size), unit="steps")

        # Your model. The loop has chosen the random stream "init" here, and another one for dropout in every step.
        model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
        self.model = accelerator.prepare_model(model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr)
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer)

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches without end."""
        while True:
            yield from InMemoryLoader(self.data["train"], self.batches)

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Learn from one batch."""
        x, y = batch
        report = self.gradient_step([(len(y), lambda: F.cross_entropy(self.model(x), y))])
        return StepResult({"loss": report.loss}, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Literal["validation", "test"]) -> dict[str, float]:
        """Measure; "validation" during training, "test" once at the end. The count gives accuracy its interval."""
        x, y = self.data[split]
        self.model.eval()
        scores = self.model(x)
        self.model.train()
        correct = int((scores.argmax(1) == y).sum())
        return {"accuracy": correct / len(y), "loss": float(F.cross_entropy(scores, y)), "examples": len(y)}

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes: what is missing here is lost when a run is resumed."""
        return {
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was called."""
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
