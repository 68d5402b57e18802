"""Glyphs that move over a canvas."""

import pytest
import torch

from aleator.data import Motions, MovingDigits, moving_digits


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_clip_shows_the_glyph_in_the_middle_and_then_two_pixels_on():
    glyph = torch.rand(1, 8, 8, generator=drawn(0))
    data = MovingDigits(glyph, torch.tensor([3]))
    motions = Motions(*map(torch.tensor, ([0], [[2, 2]], [2], [1], [False])))  # to the left, of brightness 0.7
    expected = torch.zeros(1, 2, 12, 12)
    expected[0, 0, 2:10, 2:10] = 0.7 * glyph[0]
    expected[0, 1, 2:10, 0:8] = 0.7 * glyph[0]
    assert torch.equal(data.clips(motions), expected)


def test_the_block_is_three_by_three_of_one_in_the_middle_of_the_crop():
    data = MovingDigits(torch.zeros(1, 8, 8), torch.tensor([0]))
    crop = data.crops(Motions(*map(torch.tensor, ([0], [[2, 2]], [0], [0], [True]))))[0]
    expected = torch.zeros(8, 8)
    expected[2:5, 2:5] = 1
    assert torch.equal(crop, expected)


def test_a_glyph_turns_round_at_the_border():
    data = MovingDigits(torch.ones(1, 2, 2), torch.tensor([0]), frames=7, size=5, speed=1)
    motions = Motions(*map(torch.tensor, ([0], [[1, 2]], [0], [2], [False])))
    assert data.places(motions)[0].tolist() == [[1, 2], [1, 3], [1, 2], [1, 1], [1, 0], [1, 1], [1, 2]]
    still = MovingDigits(torch.ones(1, 2, 2), torch.tensor([0]), frames=3, size=2)
    assert still.places(still.draw(4, drawn(0))).abs().sum() == 0


def test_what_is_seen_where_the_glyph_is_equals_its_crop_in_every_frame():
    data = moving_digits(frames=5, size=15, begin="anywhere", speed=3)
    motions = data.draw(20, drawn(1))
    clips = data.clips(motions)
    assert torch.equal(data.seen(clips, motions), data.crops(motions).unsqueeze(1).expand(-1, 5, -1, -1))
    assert clips.flatten(1).sum(1) == pytest.approx(5 * data.crops(motions).flatten(1).sum(1), rel=1e-5)
    assert len(motions.at(slice(3)).glyph) == 3
    assert torch.equal(data.clips(motions.at(slice(5, 7))), clips[5:7])


def test_every_direction_level_and_block_is_drawn_as_often_as_it_should_be():
    data = moving_digits(block_share=0.25)
    motions = data.draw(4000, drawn(2))
    for found, count in ((motions.direction, 4), (motions.level, 3)):  # 4.5 standard deviations: once in 10^5 seeds
        assert (found.bincount() / 4000 - 1 / count).abs().max() < 4.5 * (1 / count * (1 - 1 / count) / 4000) ** 0.5
    assert abs(float(motions.block.float().mean()) - 0.25) < 4.5 * (0.25 * 0.75 / 4000) ** 0.5
    assert torch.equal(motions.glyph, data.draw(4000, drawn(2)).glyph)


def test_parts_are_apart_and_values_between_0_and_1():
    train, test = moving_digits(), moving_digits(part="test")
    assert (len(train), len(test), train.size) == (1437, 360, 12)
    assert float(train.glyphs.min()) == 0
    assert float(train.glyphs.max()) == 1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": 7}, "size must be at least 8, the side of a glyph, got 7"),
        ({"speed": -1}, "speed must not be negative, got -1"),
        ({"begin": "left"}, 'begin must be "middle" or "anywhere", got \'left\''),
        ({"brightnesses": (2.0,)}, r"brightnesses must be in \[0, 1\], got \(2.0,\)"),
        ({"block_share": 1.5}, r"block_share must be in \[0, 1\], got 1.5"),
        ({"name": "cifar10"}, "name must be digits, mnist or fashion-mnist, got 'cifar10'"),
        ({"part": "all"}, "part must be train or test, got 'all'"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        moving_digits(**options)
