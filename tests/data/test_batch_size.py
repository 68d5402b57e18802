"""How a batch grows and how it is cut: arithmetic that is exact, limits that hold."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.data import BatchPlan, BatchSizeController, largest_micro, required_batch_size, split_batch
from aleator.gradients import GradStats, TraceStats


def asking(size: float, n: int = 8, eta: float = 0.5) -> GradStats:
    """Statistics of a batch of n, on which the norm test asks for a size."""
    trace = size * eta**2
    # Two examples ±√(trace/2) about a mean of norm 1 in another direction.
    return GradStats(torch.full((2,), 1 + trace / 2, dtype=torch.float64), None, 1.0, n)


def grown(controller, *sizes):
    found = []
    for size in sizes:
        controller.observe(asking(size, controller.propose().global_size))
        found.append(controller.propose().global_size)
    return found


def test_the_helper_asks_for_what_it_says():
    assert required_batch_size(asking(37.0)) == pytest.approx(37)


def test_batches_grow_to_what_is_asked_rounded_up_and_never_shrink():
    controller = BatchSizeController(8, 1000, growth_cap=math.inf)
    assert grown(controller, 8.0, 30.2, 5.0, 31.0, 900.5, 1.0, 5000.0) == [8, 31, 31, 31, 901, 901, 1000]
    assert controller.required == pytest.approx(5000)


def test_a_test_multiplies_by_the_cap_at_most():
    controller = BatchSizeController(10, 1000)
    assert grown(controller, 1e9, 30.0, 1e9, 1e9, 1e9, 1e9) == [40, 40, 160, 640, 1000, 1000]
    assert BatchSizeController(10, 1000, growth_cap=1.25).due(0)
    assert grown(BatchSizeController(10, 1000, growth_cap=1.25), 1e9, 1e9) == [12, 15]


def test_batches_that_were_drawn_before_it_grew_do_not_multiply_it_again():
    controller = BatchSizeController(10, 1000)
    for _ in range(3):  # a queue of three
        controller.observe(asking(1e9, 10))
    assert controller.propose().global_size == 40


def test_patience_waits_for_p_failures_in_q_tests():
    controller = BatchSizeController(8, 1000, patience=(2, 3))
    assert grown(controller, 20.0, 1.0, 1.0, 20.0, 1.0, 20.0, 25.0, 25.0) == [8, 8, 8, 8, 8, 20, 20, 25]


def test_smoothing_divides_running_means_and_not_means_of_quotients():
    controller = BatchSizeController(2, 10_000, smooth=0.5, growth_cap=math.inf, eta=1.0, estimator="micro_batch")
    noise, gradient = 0.0, 0.0
    for trace, square in ((10.0, 1.0), (30.0, 0.1), (10.0, 5.0)):
        controller.observe(TraceStats(trace, square, 2))
        noise, gradient = (trace, square) if not noise else ((noise + trace) / 2, (gradient + square) / 2)
        assert controller.required == pytest.approx(noise / gradient, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_no_test(value):
    controller = BatchSizeController(8, 1000, smooth=0.9)
    grown(controller, 20.0)
    before = controller.state_dict()
    controller.observe(GradStats(torch.full((4,), value, dtype=torch.float64), None, 1.0, 8))
    controller.observe(GradStats(torch.ones(4, dtype=torch.float64), None, value, 8))
    assert controller.state_dict() == before


def test_noise_without_a_gradient_grows_the_batch_by_the_cap():
    controller = BatchSizeController(8, 1000)
    controller.observe(GradStats(torch.ones(4, dtype=torch.float64), None, 0.0, 8))
    assert controller.propose().global_size == 32
    controller.observe(GradStats(torch.zeros(4, dtype=torch.float64), None, 0.0, 32))
    assert controller.propose().global_size == 32


def test_no_batch_is_tested_at_the_largest_size():
    controller = BatchSizeController(8, 20, every=3)
    assert [controller.due(step) for step in range(7)] == [True, False, False, True, False, False, True]
    grown(controller, 1e9)
    assert controller.propose().global_size == 20
    assert not any(controller.due(step) for step in range(7))
    assert not BatchSizeController(8, 9, world_size=4).due(0)  # 9 has no room for more


def test_a_saved_controller_goes_on_as_the_other_does():
    options = {"patience": (2, 3), "smooth": 0.5, "max_micro": 16}
    one, other = BatchSizeController(8, 1000, **options), BatchSizeController(8, 1000, **options)
    grown(one, 20.0, 40.0, 60.0)
    other.load_state_dict(one.state_dict())
    assert other.propose() == one.propose()
    assert grown(one, 90.0, 500.0, 700.0) == grown(other, 90.0, 500.0, 700.0)
    assert one.state_dict() == other.state_dict()
    four = BatchSizeController(8, 1000, world_size=4, **options)
    four.load_state_dict(one.state_dict())
    assert four.propose().global_size >= one.propose().global_size
    assert four.propose().global_size - one.propose().global_size < 4 * four.propose().accumulation


# --- how a batch is cut


@pytest.mark.parametrize(
    ("size", "options", "plan"),
    [
        (8, {}, (8, 8, 1)),
        (100, {"world_size": 4, "accumulation": 2}, (104, 13, 2)),
        (100, {"world_size": 4, "accumulation": 7}, (112, 4, 7)),
        (9, {"world_size": 4, "accumulation": 4}, (16, 2, 2)),  # pieces of two at least: fewer of them
        (1000, {"world_size": 2, "max_micro": 64}, (1024, 64, 8)),
        (1000, {"world_size": 2, "max_micro": 64, "multiple_of": 10}, (1080, 60, 9)),
        (1990, {"world_size": 4, "max_micro": 64}, (1984, 62, 8)),  # 8 pieces of 64 would be 2048
        (2000, {"world_size": 3}, (1998, 666, 1)),
    ],
)
def test_a_batch_is_cut_as_the_rule_says(size, options, plan):
    assert split_batch(size, 2000, **options) == BatchPlan(*plan)


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(2, 5),
    st.one_of(st.none(), st.integers(1, 200)),
    st.integers(1, 12),
)
def test_every_cut_keeps_its_limits(size, maximum, world, accumulation, min_micro, max_micro, multiple_of):
    options = {
        "world_size": world,
        "accumulation": accumulation,
        "min_micro": min_micro,
        "max_micro": max_micro,
        "multiple_of": multiple_of,
    }
    least = -(-min_micro // multiple_of) * multiple_of
    if maximum < world * least or (max_micro is not None and max_micro // multiple_of * multiple_of < 2 * least):
        with pytest.raises(ValueError, match=r"max(imum|_micro) must be at least"):
            split_batch(min(size, maximum), maximum, **options)
        return
    plan = split_batch(min(size, maximum), maximum, **options)
    assert plan.global_size == plan.micro * plan.accumulation * world <= maximum
    assert plan.micro >= min_micro
    assert plan.micro % multiple_of == 0
    assert max_micro is None or plan.micro <= max_micro
    below = plan.global_size < min(size, maximum)
    if below:  # only where one more example in a piece, or one more piece, would pass the largest batch
        bound = world * multiple_of * plan.accumulation
        assert maximum - plan.global_size < max(bound, world * plan.micro)
    again = split_batch(plan.global_size, maximum, **{**options, "accumulation": plan.accumulation})
    assert again == plan


def test_pieces_of_other_batches_are_no_larger_than_the_plan_allows():
    controller = BatchSizeController(1000, 4000, world_size=2, max_micro=64)
    assert controller.propose() == BatchPlan(1024, 64, 8)
    assert [controller.pieces(n) for n in (1024, 1000, 130, 128, 2)] == [8, 8, 2, 1, 1]


@pytest.mark.parametrize("most", [4, 5, 8, 37, 100, 1000])
def test_the_largest_piece_that_fits_is_found_to_an_eighth(most):
    tried = []

    def attempt(count):
        tried.append(count)
        if count > most:
            raise torch.OutOfMemoryError("too many")

    found = largest_micro(attempt, 4, 512)
    assert min(most, 512) * 7 / 8 - 1 <= found <= min(most, 512)
    assert len(tried) < 16
    controller = BatchSizeController(8, 512, max_micro="auto", attempt=attempt)
    assert controller.max_micro == found


def test_other_errors_of_an_attempt_are_not_taken_for_want_of_memory():
    def broken(count):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        largest_micro(broken, 4, 512)

    def too_large(count):
        raise torch.OutOfMemoryError

    with pytest.raises(ValueError, match="a micro-batch of 4 examples must fit into memory, and does not"):
        largest_micro(too_large, 4, 512)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"eta": 0.0}, "eta must be positive and finite, got 0.0"),
        ({"maximum": 7}, "maximum must be at least 8, got 7"),
        ({"initial": 1}, "initial must be at least 2, got 1"),
        ({"initial": 6, "world_size": 4}, "initial must be at least 8, got 6"),
        ({"min_micro": 1}, "min_micro must be at least 2, got 1"),
        ({"max_micro": 3}, "max_micro must be at least 4, twice the smallest piece, got 3"),
        ({"maximum": 9, "world_size": 4, "min_micro": 3}, "maximum must be at least 12, a piece for every process"),
        ({"sample_cap": 1}, "sample_cap must be at least 2, got 1"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"growth_cap": 1.0}, "growth_cap must be above 1, got 1.0"),
        ({"growth_cap": math.nan}, "growth_cap must be above 1, got nan"),
        ({"patience": (3, 2)}, r"patience must be a pair 1 <= p <= q, got \(3, 2\)"),
        ({"smooth": 1.0}, r"smooth must be in \[0, 1\), got 1.0"),
        ({"smooth": 0.5, "test": "coordinate"}, "smooth cannot be used with the test 'coordinate', got 0.5"),
        ({"estimator": "exact"}, "estimator must be one of 'per_sample', 'micro_batch', 'official', got 'exact'"),
        ({"estimator": "micro_batch", "test": "inner"}, "test must be 'norm' with the estimator 'micro_batch'"),
        ({"estimator": "official", "test": "augmented"}, "test must be 'norm' with the estimator 'official'"),
        ({"max_micro": "auto"}, "attempt must be given with max_micro='auto' and only there"),
        ({"attempt": print}, "attempt must be given with max_micro='auto' and only there"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, line):
    with pytest.raises(ValueError, match=line):
        BatchSizeController(**{"initial": 8, "maximum": 1000, **options})


def test_statistics_of_the_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="stats must be TraceStats with the estimator 'micro_batch', got GradStats"):
        BatchSizeController(8, 100, estimator="micro_batch").observe(asking(10.0))
