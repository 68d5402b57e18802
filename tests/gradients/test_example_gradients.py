"""Norms without gradients, products by one forward-mode pass, and moments: all equal what written-out gradients say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aleator.gradients import NoGhostNorm, example_gradients, ghost_norms, inner_products


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double()


class Residual(nn.Module):
    """Convolutions of every kind, normalised by groups, with a rectifier that works in place."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.norm = nn.GroupNorm(3, 6)
        self.two = nn.Conv2d(6, 6, 3, padding="same", dilation=2, bias=False)
        self.reflected = nn.Conv2d(6, 2, 2, padding=1, padding_mode="reflect")
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.norm(self.one(x)))
        return self.reflected(self.act(self.two(x)) + x).mean((2, 3))


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(2, 4, 3, padding=2, dilation=2), nn.Tanh(), nn.Conv1d(4, 3, 2, stride=2))

    def forward(self, x):
        return self.layers(x).mean(2)


class Words(nn.Module):
    """An embedding whose table is the last layer too, used twice over; a padding index; norms of layers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 5, padding_idx=0)
        self.norm = nn.LayerNorm(5)
        self.root = nn.RMSNorm(5)
        self.mix = nn.Linear(5, 5)

    def forward(self, x):
        hidden = self.norm(self.mix(self.table(x)) + self.table(x.flip(1)))
        return F.linear(self.root(torch.tanh(self.mix(hidden))), self.table.weight).mean(1)


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.Linear(8, 4)), (6, 3)),
    "wide sequence": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(40, 4)), (6, 20, 3)),
    "short sequence": (lambda: nn.Sequential(nn.Linear(9, 9), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4)), (6, 2, 9)),
    "convolutions": (Residual, (6, 4, 8, 8)),
    "signal": (Signal, (6, 2, 11)),
    "one layer twice": (lambda: (lambda same: nn.Sequential(same, nn.Tanh(), same))(nn.Linear(4, 4)), (6, 4)),
    "batch norm at rest": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).eval(), (6, 3)),
}


def case(name):
    if name == "words":
        inputs = torch.randint(7, (6, 9), generator=torch.Generator().manual_seed(1))
        return made(Words), (inputs, torch.arange(6) % 7)
    build, shape = MODELS[name]
    return made(build), (normal(*shape), torch.arange(6) % 2)


def losses(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def written_out(model, batch):
    """The gradients of the examples, one after the other."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for x, y in zip(*batch, strict=True):
        loss = F.cross_entropy(model(x[None]), y[None])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(found)


def joined(by_name, model):
    return torch.cat([by_name[name].flatten() for name, _ in model.named_parameters()])


@pytest.mark.parametrize("name", [*MODELS, "words"])
def test_ghost_norms_and_forward_mode_products_equal_written_out_gradients(name):
    model, batch = case(name)
    expected = written_out(model, batch)
    squares, mean = ghost_norms(model, lambda: losses(model, batch))
    torch.testing.assert_close(squares, expected.square().sum(1), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(joined(mean, model), expected.mean(0), rtol=1e-9, atol=1e-14)
    products = inner_products(model, losses, batch, mean)
    torch.testing.assert_close(products, expected @ expected.mean(0), rtol=1e-9, atol=1e-14)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("chunk", [None, 1, 4])
@pytest.mark.parametrize("name", ["mlp", "words"])
def test_all_methods_and_chunks_say_the_same(name, chunk):
    model, batch = case(name)
    expected, direction = written_out(model, batch), {}
    for (key, p), seed in zip(model.named_parameters(), range(20), strict=False):
        direction[key] = normal(*p.shape, seed=seed)
    along = expected @ joined(direction, model)
    need = ("norms", "inner", "second_moment")
    vmapped = example_gradients(model, losses, batch, need=need, direction=direction, method="vmap", chunk=chunk)
    ghost = example_gradients(model, losses, batch, need=need[:2], direction=direction, method="ghost")
    for found in (vmapped, ghost):
        torch.testing.assert_close(found.sq_norms, expected.square().sum(1), rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(found.inner, along, rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(joined(found.mean, model), expected.mean(0), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(joined(vmapped.second_moment, model), expected.square().mean(0), rtol=1e-9, atol=1e-14)
    own = example_gradients(model, losses, batch, need=need[:2], method="vmap", chunk=chunk)
    torch.testing.assert_close(own.inner, expected @ expected.mean(0), rtol=1e-9, atol=1e-14)


def test_a_parameter_that_is_not_trained_does_not_count():
    model, batch = case("mlp")
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    kept = torch.cat([torch.full_like(p, p.requires_grad).flatten() for p in model.parameters()])
    model.requires_grad_(True)
    expected = (written_out(model, batch) * kept).square().sum(1)
    model[0].weight.requires_grad_(False)
    model[3].bias.requires_grad_(False)
    for method in ("ghost", "vmap"):
        found = example_gradients(model, losses, batch, method=method)
        torch.testing.assert_close(found.sq_norms, expected, rtol=1e-9, atol=1e-14)


class Positions(nn.Module):
    """A parameter that is added, and attention."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(3, 4))
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.block(x + self.places).mean(1)


def test_uses_without_a_rule_are_named_and_written_out_instead():
    model, batch = made(Positions), (normal(6, 3, 4), torch.arange(6) % 4)
    with pytest.raises(NoGhostNorm, match=r"places is used by add, for which there is no ghost norm"):
        example_gradients(model, losses, batch, method="ghost")
    expected = written_out(model, batch)
    found = example_gradients(model, losses, batch, need=("inner",))
    torch.testing.assert_close(found.sq_norms, expected.square().sum(1), rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.inner, expected @ expected.mean(0), rtol=1e-9, atol=1e-14)
    products = inner_products(model, losses, batch, found.mean)  # through attention
    torch.testing.assert_close(products, found.inner, rtol=1e-9, atol=1e-14)


class Doubled(torch.autograd.Function):
    """A function that torch does not show to those who watch."""

    @staticmethod
    def forward(x, weight):
        return x @ weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight.T, x.T @ g


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, x):
        return Doubled.apply(x, self.weight)


def test_a_use_that_cannot_be_seen_is_not_forgotten():
    model, batch = made(Hidden), (normal(4, 3), torch.arange(4) % 3)
    with pytest.raises(NoGhostNorm, match="weight is used in a way that ghost norms do not see"):
        ghost_norms(model, lambda: losses(model, batch))


def test_time_before_examples_is_refused():
    model, batch = made(lambda: nn.Linear(3, 4)), normal(5, 6, 3)
    with pytest.raises(
        NoGhostNorm, match=r"weight, bias must act on examples in the first dimension .* 5 instead of 6"
    ):
        ghost_norms(model, lambda: model(batch).square().sum((0, 2)))


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_batch_normalisation_in_training_mode_is_refused_by_name(method):
    model, batch = case("batch norm at rest")
    model.train()
    before = model[1].running_mean.clone()
    with pytest.raises(ValueError, match=r"batch normalisation in training mode: 1$"):
        example_gradients(model, losses, batch, method=method)
    assert torch.equal(model[1].running_mean, before)
    for track in (True, False):  # without running statistics it is never at rest
        model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=track)).double().eval()
        if not track:
            with pytest.raises(ValueError, match="batch normalisation in training mode: 0"):
                example_gradients(model, losses, (normal(6, 3), torch.arange(6) % 3))


def test_norms_whose_squares_vanish_in_single_precision_are_kept():
    model = made(lambda: nn.Linear(2, 2, bias=False)).float()
    batch = normal(3, 2).float()
    squares, _ = ghost_norms(model, lambda: model(batch * 1e-13).sum(1) * 1e-13)
    expected = 2 * (batch.double() * 1e-26).square().sum(1)
    torch.testing.assert_close(squares, expected, rtol=1e-5, atol=0)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"method": "fast"}, "method must be 'auto', 'ghost' or 'vmap', got 'fast'"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"need": ("norm",)}, "need must be of norms, inner, second_moment, got 'norm'"),
        ({"need": ("second_moment",), "method": "ghost"}, "method must be 'vmap' or 'auto' for second_moment"),
        ({"need": ("inner",), "direction": {"7.bias": torch.ones(4)}}, "direction must be of trained parameters, got"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, line):
    model, batch = case("mlp")
    with pytest.raises(ValueError, match=line):
        example_gradients(model, losses, batch, **options)


def test_losses_must_be_of_examples():
    model, batch = case("mlp")
    with pytest.raises(ValueError, match=r"losses must return one number for each example, got the shape \(\)"):
        example_gradients(model, lambda m, b: losses(m, b).mean(), batch)
