"""A condition that is there at random."""

import copy
import pickle

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from aleator.nn import Stage, StochasticConditioning


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_stages(p: float = 0.5, **options) -> StochasticConditioning:
    return StochasticConditioning([Stage(3, p=0.0), Stage(5, p=p)], generator=drawn(0), **options)


def test_in_a_stage_without_it_the_output_does_not_depend_on_the_condition():
    conditioning = two_stages()

    def model(x):
        return torch.tanh(x @ torch.linspace(-1, 1, 8, dtype=torch.float64).view(4, 2))

    condition = torch.randn(6, 4, dtype=torch.float64, generator=drawn(1)).requires_grad_()
    other = torch.full_like(condition, torch.nan)
    found, keep = conditioning(condition, 2)
    model(found).sum().backward()
    assert not keep.any()
    assert condition.grad.eq(0).all()
    assert torch.equal(model(found), model(conditioning(other, 2).condition))


def test_probability_one_is_the_condition_bit_for_bit():
    condition = torch.randn(6, 2, 3, generator=drawn(1))
    found, keep = two_stages(p=1.0)(condition, 3)
    assert torch.equal(found, condition)
    assert keep.all()


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
def test_the_rate_of_kept_samples_is_the_probability(p):
    conditioning = two_stages(p)
    keep = torch.cat([conditioning(torch.ones(100, 1), step).keep for step in range(3, 103)])
    # Four standard deviations, as the sheet asks: 6 in 10^5 seeds.
    assert abs(float(keep.double().mean()) - p) <= 4 * (p * (1 - p) / 10_000) ** 0.5
    assert float(conditioning.realised_rate) == float(keep.double().mean())
    # Neighbours are independent: the share of equal ones is p² + (1 − p)².
    equal = p * p + (1 - p) ** 2
    same = (keep[1:] == keep[:-1]).double().mean()
    assert abs(float(same) - equal) < 4 * 2 * (equal * (1 - equal) / 10_000) ** 0.5


def test_a_mask_is_a_function_of_the_step_also_after_a_resume():
    one, other = two_stages(), StochasticConditioning([Stage(3, p=0.0), Stage(5)], generator=drawn(9))
    condition = torch.ones(20, 1)
    first = [one(condition, step).keep for step in range(8)]
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.realised_rate, one.realised_rate)
    for copied in (other, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert all(torch.equal(copied(condition, step).keep, first[step]) for step in (5, 2, 7))
    assert not torch.equal(first[4], first[5])


def test_gradient_checkpointing_sees_the_same_mask_and_counts_it_once():
    plain, again = two_stages(), two_stages()
    masks = []

    def branch(x):
        found, keep = again(x, 4)
        masks.append(keep)
        return (found * x).sum()

    x = torch.randn(16, 2, generator=drawn(2), requires_grad=True)
    checkpoint(branch, x, use_reentrant=False).backward()
    recomputed = x.grad.clone()
    x.grad = None
    (plain(x, 4).condition * x).sum().backward()
    assert len(masks) == 2
    assert torch.equal(*masks)
    assert torch.equal(x.grad, recomputed)
    assert torch.equal(plain.realised_rate, again.realised_rate)


@pytest.mark.plain
def test_a_compiled_model_is_not_compiled_anew_at_every_step():
    conditioning, plain = two_stages(), two_stages()
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    model = torch.compile(lambda x, step: 2 * conditioning(2 * x, step).condition, backend=backend)
    x = torch.ones(6, 2)
    for step in range(6):
        assert torch.equal(model(x, step), 4 * plain(x, step).condition)
    assert len(compiled) == 3  # before it, after it, and again where the step is found to be a variable


def test_processes_draw_apart_and_pieces_of_a_batch_draw_what_the_whole_does():
    whole = two_stages().keep(4, 64)
    assert not torch.equal(two_stages(rank=1).keep(4, 64), whole)
    conditioning = two_stages()
    pieces = [conditioning(torch.ones(32, 1), 4, samples=torch.arange(64)[i::2]).keep for i in (0, 1)]
    assert torch.equal(torch.stack(pieces, 1).flatten(), whole)
    assert float(conditioning.realised_rate) == float(whole.double().mean())


def test_parts_of_a_condition_are_dropped_together_and_nulls_may_be_given():
    null = {"text": torch.tensor([7.0, 8.0]), "image": torch.tensor(-1.0)}
    conditioning = two_stages(null=null)
    given = {"text": torch.zeros(10, 3, 2), "image": torch.zeros(10, 1, 2, 2)}
    found, keep = conditioning(given, 4)
    assert 0 < keep.sum() < 10
    assert torch.equal(found["text"], torch.where(keep.view(-1, 1, 1), 0.0, null["text"]).expand(10, 3, 2))
    assert torch.equal(found["image"], torch.where(keep.view(-1, 1, 1, 1), 0.0, -1.0).expand(10, 1, 2, 2))


def test_nulls_follow_the_module_to_a_device_and_are_no_part_of_its_state():
    null = {"text": torch.zeros(2), "a.b": torch.ones(1)}
    conditioning = two_stages(null=null)
    assert list(conditioning.state_dict()) == ["_extra_state"]
    assert [each.device.type for each in conditioning.to("meta").buffers()] == ["meta"] * 2
    copied = pickle.loads(pickle.dumps(copy.deepcopy(two_stages(p=0.0, null=null))))
    assert copied({"text": torch.ones(1, 2), "a.b": torch.zeros(1, 3)}, 4).condition["a.b"].tolist() == [[1.0] * 3]


def test_a_null_may_be_learnt():
    conditioning = two_stages(null=torch.nn.Parameter(torch.tensor([7.0, 8.0])))
    (null,) = conditioning.parameters()
    found, keep = conditioning(torch.zeros(10, 2), 4)
    found.sum().backward()
    assert null.grad.tolist() == [10 - int(keep.sum())] * 2


def test_one_draw_may_hold_for_the_whole_batch():
    conditioning = two_stages(per_sample=False)
    kept = torch.stack([conditioning.keep(step, 5) for step in range(3, 40)])
    assert torch.equal(kept, kept[:, :1].expand(-1, 5))
    assert 0 < kept[:, 0].sum() < len(kept)


def test_a_schedule_is_a_function_of_the_share_of_its_stage():
    conditioning = StochasticConditioning([Stage(2, p=0.25), Stage(4, p=lambda share: 1 - share / 2)])
    assert [conditioning.probability(step) for step in range(8)] == [0.25, 0.25, 1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    twice = Stage(1, p=0.0)
    cycle = StochasticConditioning([twice, Stage(1, p=1.0), twice])
    assert [cycle.probability(step) for step in range(4)] == [0, 1, 0, 0]


def test_evaluation_lets_everything_through_and_an_empty_batch_stays_empty():
    conditioning = two_stages()
    assert conditioning(torch.ones(0, 3), 4).condition.shape == (0, 3)
    conditioning.eval()
    assert torch.equal(conditioning(torch.ones(2, 3), 0).condition, torch.ones(2, 3))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Stage(0), "steps of a stage must be a whole number of at least 1, got 0"),
        (lambda: Stage(2.5), "steps of a stage must be a whole number of at least 1, got 2.5"),
        (lambda: Stage(5, p="half"), r"p must be in \[0, 1\], got 'half'"),
        (lambda: Stage(5, p=1.5), r"p must be in \[0, 1\], got 1.5"),
        (lambda: Stage(5, p=float("nan")), r"p must be in \[0, 1\], got nan"),
        (lambda: StochasticConditioning([]), "stages must have at least one stage, got none"),
        (lambda: two_stages(null="ones"), "null must be 'zeros', a tensor or a dict of tensors, got 'ones'"),
        (lambda: two_stages(rank=-1), "rank must not be negative, got -1"),
        (lambda: two_stages()(torch.ones(2, 1), -1), "step must not be negative, got -1"),
        (lambda: two_stages()({}, 1), r"condition must have one number of samples .*, got \{\}"),
        (lambda: two_stages()({"a": torch.ones(2), "b": torch.ones(3)}, 1), r"got \{'a': \[2\], 'b': \[3\]\}"),
        (lambda: two_stages(null=torch.ones(3))(torch.ones(2, 4), 1), r"null must broadcast to \[4\].*, got \[3\]"),
        (lambda: two_stages(null={"a": torch.ones(1)})(torch.ones(2, 4), 1), "null must be of the condition's form"),
        (lambda: two_stages().keep(1, 3, samples=torch.arange(2)), "samples must be 3 numbers.*got \\[2\\]"),
        (
            lambda: StochasticConditioning([Stage(1, p=lambda share: 2.0)]).probability(0),
            r"p must be in \[0, 1\], got 2.0",
        ),
    ],
)
def test_refuses(act, message):
    with pytest.raises(ValueError, match=message):
        act()
