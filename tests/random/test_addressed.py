"""Random bits with addresses: Philox as published, by every path, in whatever pieces; moments of directions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aleator.random import KINDS, Region, addressed, directions, random_bits, subtract_directions
from aleator.random.items import philox

KEY = (2**63 + 11, 5, 2**40 + 3, 2)
kernels = pytest.importorskip("aleator.random.kernels", exc_type=ImportError)


@pytest.fixture
def torch_only(monkeypatch):
    """As on a device, or without numba."""
    monkeypatch.setattr(addressed, "compiled_loops", lambda: None)
    monkeypatch.setattr(directions, "compiled_loops", lambda: None)


def stepped(values, coefficients, keys, kind, **options):
    values = values.clone()
    subtract_directions(values, coefficients, keys, kind, **options)
    return values


def by_torch(monkeypatch, *given, **options):
    with monkeypatch.context() as patched:
        patched.setattr(directions, "compiled_loops", lambda: None)
        return stepped(*given, **options)


def test_bits_are_two_rounds_of_philox():
    run, number, machine, sample = KEY
    a, b, c, d = philox((number, sample, machine % 2**32, machine >> 32), (run % 2**32, run >> 32))
    wanted = [word for block in range(3) for word in philox((block, 9, c, d), (a, b))]
    assert random_bits(KEY, 9, range(12)).tolist() == wanted


@given(st.integers(0, 5000), st.integers(0, 3000), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_bits_are_the_same_by_numba_and_by_torch_from_wherever_they_begin(first, size, machine, tensor):
    key = (1, 2, machine, 3)
    elements = torch.arange(first, first + size)
    assert torch.equal(random_bits(key, tensor, range(first, first + size)), random_bits(key, tensor, elements))


def test_bits_of_the_last_elements_are_there():
    last = 2**34 - 3
    assert torch.equal(random_bits(KEY, 0, range(last, last + 3)), random_bits(KEY, 0, last + torch.arange(3)))


def test_no_two_of_a_million_keys_share_a_stream():
    rng = np.random.default_rng(0)
    machine = np.unique(rng.integers(0, 2**63, size=10**6))
    numbers, samples = rng.integers(0, 10**6, len(machine)), rng.integers(0, 10**4, len(machine))
    keys = np.stack((np.full(len(machine), 7), numbers, machine, samples), 1).astype(np.uint64)
    streams = kernels._streams(keys)
    assert all(tuple(streams[i].tolist()) == addressed.stream(tuple(keys[i].tolist())) for i in range(50))
    # by half of the 128 bits already
    assert len(np.unique(streams[:, 0] | streams[:, 1] << np.uint64(32))) == len(machine) > 999_000


def test_the_colliding_pair_of_the_papers_program_does_not_collide():
    # (k=1, s=0, first machine) and (k=0, s=0, a machine that joined a second later) have one seed there.
    first, second = random_bits((0, 1, 0, 0), 0, range(64)), random_bits((0, 0, 1_000_000, 0), 0, range(64))
    assert int((first == second).sum()) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numba_and_torch_take_the_same_step(monkeypatch, kind, dtype):
    values = torch.linspace(-1, 1, 4999, dtype=dtype)
    given = (values, [0.3, -1e-4, 7.7], [KEY, (1, 2, 3, 4), (1, 2, 3, 5)], kind)
    options = {"tensor": 4, "region": Region(1234, 1, 4999, 0), "decays": [0.1, 0, 0.2]}
    ours, other = stepped(*given, **options), by_torch(monkeypatch, *given, **options)
    if kind == "gaussian":  # a logarithm and a cosine
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)
    else:
        assert torch.equal(ours, other)


@pytest.mark.parametrize("kind", KINDS)
def test_many_directions_in_one_pass_are_the_bits_of_one_pass_for_each(kind):
    values, keys = torch.linspace(-2, 2, 3000), [(1, 0, m, 0) for m in range(9)]
    coefficients = np.linspace(-0.1, 0.2, 9)
    one_by_one = values
    for c, key in zip(coefficients, keys, strict=True):
        one_by_one = stepped(one_by_one, [c], [key], kind)
    assert torch.equal(stepped(values, coefficients, keys, kind), one_by_one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["numba", "torch"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_a_shard_has_its_part_of_the_step(request, kind, path, dim):
    if path == "torch":
        request.getfixturevalue("torch_only")
    whole, shape = torch.zeros(7, 33, 29), (7, 33, 29)
    wanted = stepped(whole, [1.0, 0.5], [KEY, (0, 0, 0, 1)], kind)
    low, high = 3, 6
    rows, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1 :])
    region = Region(low * inner, rows, (high - low) * inner, shape[dim] * inner)
    part = whole.narrow(dim, low, high - low).contiguous()
    assert torch.equal(
        stepped(part, [1.0, 0.5], [KEY, (0, 0, 0, 1)], kind, region=region), wanted.narrow(dim, low, high - low)
    )


def test_the_popcount_step_is_free_of_rounding_in_its_products(monkeypatch):
    # With fused multiplication, simulated in float64, the bits are the same: every product fits into 24 bits.
    values, c = torch.linspace(-3, 3, 20_000), 0.123456789
    ours = stepped(values, [c], [KEY], "popcount")
    numbers = by_torch(
        monkeypatch, torch.zeros(20_000, dtype=torch.float64), [-math.sqrt(8)], [KEY], "popcount"
    ).round()
    small = float(np.float32(np.ldexp(np.rint(np.ldexp(c / math.sqrt(8), 19 + 4)), -19 - 4)))  # c/√8 is in [2⁻⁵, 2⁻⁴)
    assert abs(small - c / math.sqrt(8)) < 2**-19 * c / math.sqrt(8)
    assert torch.equal(ours, (values.double() - small * numbers).float())


@pytest.mark.parametrize(("kind", "fourth"), [("rademacher", 1.0), ("popcount", 2.9375), ("gaussian", 3.0)])
def test_moments_of_directions(kind, fourth):
    z = stepped(torch.zeros(10**6, dtype=torch.float64), [-1.0], [(3, 1, 4, 1)], kind)
    # five standard errors: false alarm below 1e-6 each
    assert abs(float(z.mean())) < 5e-3
    assert abs(float(z.square().mean()) - 1) < 5e-3 * math.sqrt(max(fourth - 1, 1e-3))
    assert abs(float(z.pow(4).mean()) - fourth) < 0.05
    assert abs(float((z[1:] * z[:-1]).mean())) < 5e-3
    if kind == "gaussian":
        assert stats.kstest(z.numpy()[:20_000], "norm").pvalue > 1e-3


@pytest.mark.plain
def test_compiled_by_torch_the_bits_are_the_same():
    def plain(values, elements):
        return values - 0.1 * directions.integers(addressed.stream(KEY), "rademacher", 3, elements, values.dtype)

    values, elements = torch.linspace(0, 1, 500), torch.arange(77, 577)
    assert torch.equal(
        torch.compile(plain, fullgraph=True, backend="aot_eager")(values, elements), plain(values, elements)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["rademacher", "popcount"])
@pytest.mark.parametrize("region", [Region(1234, 1, 2999, 0), Region(37, 5, 600, 1700)], ids=["a row", "rows"])
def test_a_gpu_takes_the_same_step(kind, region):
    given = ([0.3, -1e-4, 7.7], [KEY, (1, 2, 3, 4), (1, 2, 3, 5)], kind)
    options = {"tensor": 1, "region": region, "decays": [0.1, 0, 0.2]}
    values = torch.linspace(-1, 1, region.rows * region.length)
    assert torch.equal(stepped(values.cuda(), *given, **options).cpu(), stepped(values, *given, **options))


def test_a_step_counts_as_a_change_of_the_tensor():
    weights = torch.zeros(5, requires_grad=True)
    before = weights._version
    subtract_directions(weights, [1.0], [KEY])
    assert weights._version > before
    assert weights.requires_grad


def test_values_that_are_not_contiguous_are_changed_too():
    values = torch.zeros(6, 4).t()
    subtract_directions(values, [1.0], [KEY])
    assert torch.equal(values, stepped(torch.zeros(4, 6), [1.0], [KEY], "rademacher"))


@pytest.mark.plain
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_bits_do_not_depend_on_the_type_of_the_indices(dtype):
    assert torch.equal(random_bits(KEY, 0, torch.arange(9, dtype=dtype)), random_bits(KEY, 0, range(9)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: subtract_directions(v.half(), [1.0], [KEY]), "values must be float32 or float64, got torch.float16"),
        (
            lambda v: subtract_directions(v, [1.0], [KEY], "sign"),
            "kind must be one of rademacher, popcount, gaussian, got",
        ),
        (lambda v: subtract_directions(v, [1.0, 2.0], [KEY]), "must have one length, got 2, 1 and 2"),
        (
            lambda v: subtract_directions(v, [1.0], [(0, 2**32, 0, 0)]),
            r"round of a key must be an integer in \[0, 2\*\*32\)",
        ),
        (lambda v: subtract_directions(v, [1.0], [KEY], region=Region(0, 1, 3, 0)), "region must have 4 elements"),
        (lambda v: subtract_directions(v, [1.0], [KEY], region=Region(2**34, 1, 4, 0)), "region must lie within"),
        (lambda v: subtract_directions(v, [1.0], [KEY], tensor=-1), r"tensor must be in \[0, 2\*\*32\), got -1"),
        (lambda v: random_bits(KEY, 0, range(0, 8, 2)), "elements must be a range with step 1"),
        (lambda v: random_bits(KEY, 0, 5), "elements must be a range or a tensor of whole numbers, got 5"),
        (lambda v: random_bits(KEY, 0, torch.tensor([3, -1])), r"elements must be in \[0, 2\*\*34\), got -1 to 3"),
        (lambda v: random_bits(KEY, 0, torch.tensor([2**34])), r"elements must be in \[0, 2\*\*34\)"),
        (lambda v: random_bits((1, 2, 3, -4), 0, range(3)), "sample of a key must be an integer"),
    ],
)
@pytest.mark.plain
def test_what_is_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(4))
