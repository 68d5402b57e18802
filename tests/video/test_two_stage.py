"""Conditions of training in two stages."""

import pytest
import torch

from aleator.nn import Stage
from aleator.video import TwoStageConditions


def conditions(p: float = 0.5, drop: float = 0.25, seed: int | None = 0) -> TwoStageConditions:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return TwoStageConditions(
        [Stage(2, 0.0), Stage(2, p)], text=torch.full((2, 3), 7.0), vision=torch.full((4, 5), 8.0), identity=6,
        drop=drop, generator=generator,
    )  # fmt: skip


def batch(count: int) -> dict[str, torch.Tensor]:
    shapes = {"text": (2, 3), "vision": (4, 5), "identity": (6,), "shallow": (3, 1, 2, 2)}
    return {name: torch.ones(count, *shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("seed", [0, None])
def test_a_photograph_comes_in_the_second_stage_and_stays_where_the_rest_is_dropped(seed):
    module = conditions(seed=seed)
    assert not module(batch(50), 1).condition["shallow"].any()
    found, keep = module(batch(400), 2)
    assert torch.equal(found["shallow"].flatten(1)[:, 0], keep.float())
    dropped = found["identity"][:, 0] == 0
    assert torch.equal(found["text"][:, 0, 0], torch.where(dropped, 7.0, 1.0))
    assert torch.equal(found["vision"][:, 0, 0], torch.where(dropped, 8.0, 1.0))
    # Apart from each other: all four combinations, at their rates to within four standard deviations.
    for kept, gone, rate in ((True, True, 0.125), (True, False, 0.375), (False, True, 0.125), (False, False, 0.375)):
        share = float(((keep == kept) & (dropped == gone)).double().mean())
        assert abs(share - rate) < 4 * (rate * (1 - rate) / 400) ** 0.5


def test_it_goes_on_where_its_state_was_saved():
    one, other = conditions(), conditions()
    one(batch(5), 3)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(batch(20), 4).keep, other(batch(20), 4).keep)
    assert float(other.shallow.realised_rate) == float(one.shallow.realised_rate)


@pytest.mark.plain
def test_refuses():
    with pytest.raises(ValueError, match=r"drop must be in \[0, 1\], got 1.5"):
        conditions(drop=1.5)
    with pytest.raises(ValueError, match="condition must have text, vision, identity, shallow, got none of shallow"):
        conditions()({name: part for name, part in batch(1).items() if name != "shallow"}, 0)
