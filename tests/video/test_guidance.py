"""Guidance over text and identity."""

import math

import pytest
import torch

from aleator.video import guidance_schedule, guided, negative_condition


def test_progress_falls_from_one_more_than_the_scale_to_about_one():
    found = guidance_schedule("progress", 6.0, 50)
    assert float(found[0]) == pytest.approx(7, abs=1e-12)
    assert float(found[-1]) == pytest.approx(1, abs=1e-6)
    assert float(found[10]) == pytest.approx(1 + 3 * (1 - math.cos(math.pi * 0.8**5)), abs=1e-12)
    assert bool((found.diff() <= 1e-12).all())


def test_released_has_the_timestep_in_the_place_of_the_step_and_goes_up_and_down():
    found = guidance_schedule("released", 6.0, 50)
    expected = [1 + 6 * (1 - math.cos(math.pi * ((50 - t) / 50) ** 5)) / 2 for t in range(999, 0, -20)]
    assert found.tolist() == pytest.approx(expected, abs=1e-7)
    turns = int((found.diff().sign().diff() != 0).sum())
    assert turns > 20
    assert 1 <= float(found.min()) < 1.1 < 6.9 < float(found.max()) <= 7


def test_constant_is_the_scale_and_at_scale_one_there_is_one_forward_pass():
    assert guidance_schedule("constant", 2.0, 3).tolist() == [2.0, 2.0, 2.0]
    sizes = []

    def predict(x, condition):
        sizes.append(len(x))
        return x * condition["identity"]

    x, condition = torch.ones(2, 3), {"identity": torch.full((2, 1), 5.0)}
    negative = {"identity": torch.full((2, 1), 2.0)}
    assert torch.equal(guided(predict, x, condition, negative, 1.0), torch.full((2, 3), 5.0))
    assert torch.equal(guided(predict, x, condition, negative, 3.0), torch.full((2, 3), 11.0))
    assert sizes == [2, 4]


def test_the_negative_branch_has_the_empty_text_a_black_image_no_identity_and_the_same_photograph():
    given = {name: torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) for name in ("text", "vision")}
    condition = {**given, "identity": torch.ones(2, 5), "shallow": torch.ones(2, 1)}
    empty, black = torch.full((3, 4), 7.0), torch.full((3, 4), 8.0)
    found = negative_condition(condition, empty, black)
    assert torch.equal(found["text"], empty.expand(2, 3, 4))
    assert torch.equal(found["vision"], black.expand(2, 3, 4))
    assert not found["identity"].any()
    assert found["shallow"] is condition["shallow"]


@pytest.mark.plain
def test_refuses():
    with pytest.raises(ValueError, match='kind must be "constant", "progress" or "released", got \'wave\''):
        guidance_schedule("wave", 1.0, 5)
    with pytest.raises(ValueError, match="scale must be finite and not negative, got -1"):
        guidance_schedule("constant", -1, 5)
    with pytest.raises(ValueError, match=r"steps must be in \[1, 1000\], got 0"):
        guidance_schedule("constant", 1.0, 0)
    with pytest.raises(ValueError, match="condition must have text, vision, identity, got none of vision, identity"):
        negative_condition({"text": torch.ones(1)}, torch.ones(1), torch.ones(1))
