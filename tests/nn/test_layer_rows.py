"""The rows of a convolution against its own output, and their products in chunks of any size."""

import pytest
import torch
from torch import nn

from aleator.nn import layer_rows
from aleator.nn.layer_rows import count_rows, gram, rows

LAYERS = {
    "plain": (nn.Conv2d, (4, 6, 3), {}),
    "stride and padding": (nn.Conv2d, (4, 6, 3), {"stride": 2, "padding": 1}),
    "stem": (nn.Conv2d, (4, 6, 7), {"stride": 2, "padding": 3}),
    "dilation": (nn.Conv2d, (4, 6, 3), {"dilation": 2, "padding": 2}),
    "groups": (nn.Conv2d, (4, 6, 3), {"groups": 2, "padding": 1}),
    "depthwise": (nn.Conv2d, (4, 8, 3), {"groups": 4}),
    "rectangular": (nn.Conv2d, (4, 6, (3, 2)), {"stride": (1, 2), "padding": (0, 1), "dilation": (2, 1)}),
    "1 x 1": (nn.Conv2d, (4, 6, 1), {}),
    "patches": (nn.Conv2d, (4, 6, 4), {"stride": 4}),
    "same": (nn.Conv2d, (4, 6, (4, 3)), {"padding": "same", "dilation": (1, 2)}),
    "valid": (nn.Conv2d, (4, 6, 3), {"padding": "valid"}),
    "reflect": (nn.Conv2d, (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}),
    "circular, same": (nn.Conv2d, (4, 6, (4, 3)), {"padding": "same", "padding_mode": "circular"}),
    "replicate": (nn.Conv2d, (4, 6, 5), {"padding": (2, 1), "padding_mode": "replicate"}),
    "1d": (nn.Conv1d, (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}),
    "3d": (nn.Conv3d, (4, 6, (2, 3, 2)), {"stride": (1, 2, 1), "padding": 1, "dilation": (1, 1, 2), "groups": 2}),
    "linear": (nn.Linear, (5, 6), {}),
}


def layer_and_input(name):
    kind, args, kwargs = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    layer = nn.utils.skip_init(kind, *args, **kwargs, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    shape = {nn.Linear: (2, 3, 5), nn.Conv1d: (5, 4, 12), nn.Conv2d: (5, 4, 12, 9), nn.Conv3d: (2, 4, 5, 6, 7)}[kind]
    return layer, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_the_weight_are_the_output(name):
    layer, x = layer_and_input(name)
    found = rows(layer, x, torch.float64)
    groups = getattr(layer, "groups", 1)
    by_group = layer.weight.reshape(groups, layer.weight.shape[0] // groups, -1)
    output = layer(x) if isinstance(layer, nn.Linear) else layer(x).movedim(1, -1)  # channels last
    output = output.reshape(-1, layer.weight.shape[0])
    products = (found @ by_group.mT).movedim(0, 1).reshape(len(output), -1) + layer.bias
    assert torch.allclose(products, output, rtol=1e-12, atol=1e-12)
    assert count_rows(layer, x) == len(output)


@pytest.mark.parametrize("entries", [1, 300, 2**18])
@pytest.mark.parametrize("name", LAYERS)
def test_products_do_not_depend_on_the_size_of_chunks(name, entries, monkeypatch):
    monkeypatch.setattr(layer_rows, "CPU_CHUNK", entries)
    layer, x = layer_and_input(name)
    whole = rows(layer, x, torch.float64)
    total, count = gram(layer, x, torch.float64)
    assert count == whole.shape[1]
    assert torch.allclose(total, whole.mT @ whole, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", ["stem", "groups", "1d", "3d", "linear"])
def test_no_images_have_no_rows_and_one_without_a_batch_dimension_has_its_own(name):
    layer, x = layer_and_input(name)
    total, count = gram(layer, x[:0], torch.float64)
    assert count == count_rows(layer, x[:0]) == 0
    assert not total.any()
    assert torch.equal(gram(layer, x[0], torch.float64)[0], gram(layer, x[:1], torch.float64)[0])
    assert count_rows(layer, x[0]) == count_rows(layer, x[:1])


def test_padding_that_was_changed_after_construction_is_seen():
    layer, x = layer_and_input("stride and padding")
    layer.padding = (0, 2)
    assert count_rows(layer, x) == layer(x)[:, 0].numel()
    assert rows(layer, x, torch.float64).shape[1] == layer(x)[:, 0].numel()
