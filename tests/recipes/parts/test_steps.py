"""``steps`` and ``resplit``: the length of a run by itself, and a split of its own for every seed."""

import pytest
import torch

from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes.classify import Classify


def built(seed=0, **options):
    streams = Streams(seed)
    with streams.scope("init"):
        return Classify(train_size=None, **options).task(streams, make_accelerator())


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 37),
        ({"subset": "rs2", "ratio": 0.1}, 37),
        ({"batch_test": "norm", "max_batch_size": 64}, 37 * 32),
    ],
)
def test_steps_take_the_place_of_rounds(options, total):
    task = built(steps=37, **options)
    assert task.budget.total == total


def test_the_schedule_stretches_over_the_steps():
    task = built(steps=8, lr=0.1)
    rates = []
    for batch, _ in zip(task.train_batches(), range(8), strict=False):
        rates.append(float(task.train_step(batch).metrics["lr"]))
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.02


def test_a_length_of_the_full_data_cannot_be_used_with_steps():
    with pytest.raises(ValueError, match="schedule_length must be own or compressed with steps, got full"):
        Classify(steps=5, subset="rs2", ratio=0.1, schedule_length="full")


def test_resplit_exchanges_training_and_validation_and_leaves_test():
    plain, one, two = built(), built(resplit=True), built(seed=1, resplit=True)

    def rows(examples):
        return sorted(row.tobytes() for row in examples.inputs.flatten(1).numpy())

    def both(task):
        return sorted(rows(task.train) + rows(task.held_out["validation"]))

    assert both(plain) == both(one) == both(two)
    assert len(one.train) == len(plain.train)
    assert rows(one.held_out["validation"]) != rows(two.held_out["validation"])
    assert all(torch.equal(task.held_out["test"].inputs, plain.held_out["test"].inputs) for task in (one, two))
