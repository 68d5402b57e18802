"""Relative attention against the formula, written out; caches against the whole sequence."""

import math

import pytest
import torch

from aleator.language.hourglass import Stack, TransformerLayer, initialise, relative_shift, sinusoid
from aleator.random import Streams


def stack(layers=2, d_model=8):
    with Streams(0).scope("init"):
        made = Stack(layers, d_model, 2, 4, 16, 0.0).double()
        initialise(made)
        for parameter in made.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        u, v = torch.randn(2, 2, 4, dtype=torch.float64)
    return made, u, v


def inputs(length=6, seed=0, d_model=8):
    return torch.randn(2, length, d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attention_is_the_formula_position_by_position():
    made, u, v = stack(1)
    attention = made.layers[0].attention
    x = inputs()
    distances = sinusoid(6, 8, x)
    found, _ = attention(x, u, v, distances, None)
    q, k, values = attention.qkv(x).view(2, 6, 3, 2, 4).unbind(2)
    mixed = torch.zeros(2, 6, 2, 4, dtype=torch.float64)
    for row in range(2):
        for head in range(2):
            for i in range(6):
                scores = []
                for j in range(i + 1):
                    angles = [(i - j) / 10000 ** (2 * f / 8) for f in range(4)]
                    wave = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
                    r = attention.position(wave).view(2, 4)[head]
                    qi = q[row, i, head]
                    scores.append(((qi + u[head]) @ k[row, j, head] + (qi + v[head]) @ r) / 2)
                weights = torch.stack(scores).softmax(0)
                mixed[row, i, head] = weights @ values[row, : i + 1, head]
    # The sinusoid is made in float32.
    torch.testing.assert_close(found, attention.output(mixed.flatten(2)), atol=1e-6, rtol=0)


def test_a_layer_normalises_after_each_sum():
    made, u, v = stack(1)
    layer: TransformerLayer = made.layers[0]
    x = inputs()
    attended, _ = layer.attention(x, u, v, sinusoid(6, 8, x), None)
    middle = layer.attention_norm(x + attended)
    expected = layer.feed_forward_norm(middle + layer.feed_forward(middle))
    torch.testing.assert_close(made(x, u, v), expected)
    assert layer.attention_norm.eps == 1e-5


def test_shift_puts_the_distance_where_the_key_is():
    # Three queries, five keys: query q stands at position 2 + q. Scores hold the distance they are for.
    distances = torch.arange(4.0, -1, -1).expand(1, 1, 3, 5)
    shifted = relative_shift(distances)[0, 0]
    for query in range(3):
        for key in range(3 + query):
            assert shifted[query, key] == 2 + query - key


@pytest.mark.parametrize("parts", [(1, 1, 1, 1, 1, 1), (3, 3), (4, 1, 1), (6,)])
def test_a_stack_that_is_fed_in_parts_gives_what_it_gives_for_the_whole(parts):
    made, u, v = stack()
    x = inputs()
    cache = []
    found = torch.cat([made(part, u, v, cache) for part in x.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(found, made(x, u, v))
    assert cache[1][0].shape == (2, 2, 6, 4)


def test_a_stack_of_no_layers_is_the_identity():
    made, u, v = stack(0)
    x = inputs()
    assert torch.equal(made(x, u, v), x)


def test_initialisation_has_the_published_scale():
    with Streams(0).scope("init"):
        made = Stack(2, 64, 4, 16, 256, 0.1)
        initialise(made)
    layer = made.layers[0]
    assert layer.attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.attention.qkv.bias.any()
    assert layer.attention_norm.weight.mean().item() == pytest.approx(1, abs=0.01)


def test_distances_in_double_precision_are_exact_to_double_precision():
    found = sinusoid(300, 8, torch.empty(0, dtype=torch.float64))
    for row, distance in ((0, 299), (100, 199)):
        angles = [distance * 10000 ** -(channel / 8) for channel in range(0, 8, 2)]
        expected = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)
