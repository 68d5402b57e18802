"""Heads: what they compute, that they learn what there is to be known, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from aleator.data import PairSampler
from aleator.losses import pair_nll
from aleator.nn import PairHead
from aleator.random import Streams

KINDS = ("table", "mixture", "autoregressive")


def head(kind: str, labels: int = 4, **options) -> PairHead:
    return PairHead(6, labels, kind, generator=Streams(0).generator("head"), **options)


def batch(size: int = 32, labels: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(size, 6, generator=Streams(0).generator("x"))
    y1, y2 = (torch.randint(labels, (size,), generator=Streams(0).generator(name)) for name in ("y1", "y2"))
    return x, y1, y2


def test_auto_is_a_table_up_to_thirty_labels():
    assert head("auto", 30).kind == "table"
    assert head("auto", 31).kind == "mixture"


def test_heads_have_the_size_they_should_have():
    def size(made):
        return sum(p.numel() for p in made.parameters())

    assert size(head("table")) == 7 * 16
    assert size(head("mixture")) == 7 * 8 * 5
    assert size(head("mixture", components=3)) == 7 * 3 * 5
    assert size(head("autoregressive")) == 7 * 4 + 7 * 6 + 4 * 6 + 7 * 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_number_of_components_may_be_written_out(kind):
    one, other = (Streams(0).generator("head") for _ in range(2))
    by_place = PairHead(6, 4, kind, 8, True, generator=one)
    by_name = PairHead(in_features=6, K=4, kind=kind, components=8, symmetric=True, generator=other)
    x, _, _ = batch()
    assert torch.equal(by_place(x).log_joint(), by_name(x).log_joint())


@pytest.mark.parametrize("kind", KINDS)
def test_short_way_to_the_loss_is_the_long_one(kind):
    made, (x, y1, y2) = head(kind), batch()
    made.double()
    short, long = made.log_prob(x.double(), y1, y2), made(x.double()).log_prob(y1, y2)
    assert torch.allclose(short, long, atol=1e-13)
    assert torch.allclose(made(x.double()).log_joint().exp().sum((-1, -2)), torch.ones(32).double(), atol=1e-12)
    grads = [torch.autograd.grad(value.sum(), list(made.parameters())) for value in (short, long)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*grads, strict=True))


def test_second_answer_of_an_autoregressive_head_depends_on_first_and_input_together():
    """Scores that were a sum of one part of each could not know more of one input than of another."""
    made, (x, _, _) = head("autoregressive"), batch()
    scores = made(x).log_conditional()
    interaction = scores - scores.mean(0) - scores.mean(1, keepdim=True) + scores.mean((0, 1))
    interaction = interaction - interaction.mean(-1, keepdim=True)
    assert interaction.abs().max() > 0.01


def test_initial_weights_come_from_the_generator():
    one, same = head("table"), head("table")
    other = PairHead(6, 4, generator=Streams(1).generator("head"))
    assert torch.equal(one.scores.weight, same.scores.weight)
    assert not torch.equal(one.scores.weight, other.scores.weight)
    assert one.scores.weight.abs().max() <= 6**-0.5


def coins(items: int, seed: int) -> tuple[torch.Tensor, PairSampler]:
    """Items of two sorts: fair coins, and coins with two equal sides of which the side cannot be seen."""
    generator = Streams(seed).generator("coins")
    known = torch.arange(items) % 2
    hidden = torch.randint(2, (items,), generator=generator)
    tossed = torch.randint(2, (items, 2), generator=generator)
    labels = torch.where(known.unsqueeze(1) == 1, tossed, hidden.unsqueeze(1).expand(-1, 2))
    features = torch.stack([known.float(), 1 - known.float()], 1).repeat(1, 4)
    return features, PairSampler(list(labels), seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_head_tells_ignorance_from_noise(kind):
    """Both sorts are predicted ½; only of the second does the model not know the true distribution, 0 or 1."""
    made = PairHead(8, 2, kind, generator=Streams(0).generator("head"))
    features, responses = coins(2000, seed=0)
    fitted = made.fit(
        features, responses, held_out=coins(500, seed=1), steps=300, lr=0.05, generator=Streams(0).generator("order")
    )
    assert fitted is made
    pairs = made(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(1, 4))
    assert torch.allclose(pairs.log_marginal().exp(), torch.full((2, 2), 0.5), atol=0.05)
    fair, double_sided = pairs.variance()[:, 0].tolist()
    assert fair == pytest.approx(0.0, abs=0.02)
    assert double_sided == pytest.approx(0.25, abs=0.02)


def test_held_out_items_decide_which_weights_are_kept():
    """Fitted to pure noise, the head is best before it has learned it by heart."""
    generator = Streams(0).generator("noise")

    def noise(items):
        x = torch.randn(items, 40, generator=generator)
        return x, PairSampler(list(torch.randint(3, (items, 2), generator=generator)), num_labels=3)

    train, held_out = noise(30), noise(200)

    def loss(**options):
        made = PairHead(40, 3, generator=Streams(0).generator("head"))
        made.fit(*train, steps=200, lr=0.1, generator=Streams(0).generator("order"), **options)
        return float(pair_nll(made(held_out[0]), *held_out[1].pairs(0)).detach())

    assert loss(held_out=held_out) < 0.8 * loss()


@pytest.mark.parametrize("kind", KINDS)
def test_heads_can_be_saved_and_copied(kind, tmp_path):
    made, (x, _, _) = head(kind), batch()
    torch.save(made.state_dict(), tmp_path / "head.pt")
    loaded = PairHead(6, 4, kind, generator=Streams(5).generator("head"))
    loaded.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    for other in (loaded, copy.deepcopy(made)):
        assert torch.equal(other(x).log_joint(), made(x).log_joint())


@pytest.mark.plain
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_heads_give_the_same_loss_and_gradient(kind):
    made, (x, y1, y2) = head(kind), batch()

    def loss(x, y1, y2):
        return pair_nll(made(x), y1, y2)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    parameters = list(made.parameters())
    one, other = loss(x, y1, y2), compiled(x, y1, y2)
    assert torch.allclose(one, other, rtol=1e-6)
    grads = [torch.autograd.grad(value, parameters) for value in (one, other)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*grads, strict=True))
    again = torch.compile(made, backend="aot_eager")(x)
    assert torch.allclose(again.log_joint(), made(x).log_joint(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_probabilities_are_in_float32(kind):
    made, (x, y1, y2) = head(kind), batch()
    with torch.autocast("cpu", torch.bfloat16):
        pairs, logs = made(x), made.log_prob(x, y1, y2)
    assert pairs.log_joint().dtype == logs.dtype == torch.float32
    assert torch.allclose(pairs.log_joint(), made(x).log_joint(), atol=0.1)


PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from aleator.losses import pair_nll
from aleator.nn import PairHead
from aleator.random import Streams

dist.init_process_group("gloo")
rank = dist.get_rank()
out = {}
for kind in ("table", "mixture", "autoregressive"):
    head = PairHead(6, 4, kind, generator=Streams(0).generator("head")).double()
    wrapped = nn.parallel.DistributedDataParallel(head)
    x = torch.randn(32, 6, generator=Streams(0).generator("x")).double()
    y1, y2 = (torch.randint(4, (32,), generator=Streams(0).generator(name)) for name in ("y1", "y2"))
    pair_nll(wrapped(x[rank::2]), y1[rank::2], y2[rank::2]).backward()
    out[kind] = {name: p.grad for name, p in head.named_parameters()}
if rank == 0:
    torch.save(out, sys.argv[1])
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_have_the_gradient_of_one(tmp_path, processes):
    (tmp_path / "program.py").write_text(PROGRAM)
    processes(tmp_path / "program.py", 2, tmp_path / "grads.pt")
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    x, y1, y2 = batch()
    for kind in KINDS:
        made = head(kind).double()
        pair_nll(made(x.double()), y1, y2).backward()
        for name, parameter in made.named_parameters():
            assert torch.allclose(found[kind][name], parameter.grad, atol=1e-14), (kind, name)


def test_on_a_backbone_it_is_a_module_like_any_other():
    model = nn.Sequential(nn.utils.skip_init(nn.Linear, 6, 6), head("table"))
    assert len(list(model.parameters())) == 4
    assert "kind=table, num_labels=4" in repr(model)


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head("tabel"), "kind must be auto, table, mixture or autoregressive, got 'tabel'"),
        (lambda: head("table", 0), "K must be at least 1, got 0"),
        (lambda: head("table", components=4), "components cannot be used with kind table, got 4"),
        (lambda: head("mixture", components=0), "components must be at least 1, got 0"),
        (lambda: head("mixture", symmetric=False), "symmetric cannot be used with kind mixture, got False"),
        (lambda: head("table").log_prob(torch.zeros(2, 6), torch.tensor([0, 4]), torch.zeros(2).long()), "got 4"),
        (
            lambda: head("autoregressive").log_prob(torch.zeros(2, 6), torch.tensor([0, 4]), torch.zeros(2).long()),
            r"y1 must be in \[0, 4\), got 4",
        ),
        (lambda: head("table").fit(torch.zeros(3, 6), PairSampler([[0, 1]])), "one row for each of 1 items, got 3"),
        (lambda: head("table").fit(torch.zeros(1, 6), PairSampler([[0, 9]])), "at most 4 labels, got 10"),
        (
            lambda: head("table").fit(torch.zeros(1, 6), PairSampler([[0, 1]]), steps=0),
            "steps must be at least 1, got 0",
        ),
        (
            lambda: head("table").fit(torch.zeros(1, 6), PairSampler([[0, 1]]), lr=0),
            "lr must be positive and finite, got 0",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
