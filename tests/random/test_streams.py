import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aleator.random import Streams, derive_key

PATHS = st.lists(st.one_of(st.text(max_size=5), st.integers(-3, 1000)), min_size=1, max_size=3).map(tuple)


def numbers(streams: Streams, *names, **kwargs):
    return torch.rand(8, generator=streams.generator(*names, **kwargs)).tolist()


def test_same_seed_and_names_give_the_same_numbers_in_another_process():
    program = (
        "import torch; from aleator.random import Streams; s = Streams(2**70 + 1);"
        "print(torch.rand(4, generator=s.generator('data', 7)).tolist(), s.numpy('x').integers(0, 2**62, 3).tolist(),"
        "s.worker_seeds(2, 'loader'), s.key('k'))"
    )
    here = Streams(2**70 + 1)
    expected = (
        torch.rand(4, generator=here.generator("data", 7)).tolist(),
        here.numpy("x").integers(0, 2**62, 3).tolist(),
        here.worker_seeds(2, "loader"),
        here.key("k"),
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == " ".join(map(str, expected))


@given(a=PATHS, b=PATHS, seed=st.integers(0, 2**80))
@settings(max_examples=40)
def test_different_names_are_different_streams(a, b, seed):
    one, other = numbers(Streams(seed), *a), numbers(Streams(seed), *b)
    assert (one == other) == (a == b)


def test_names_do_not_run_together():
    streams = Streams(0)
    drawn = [numbers(streams, *path) for path in [("a", "b"), ("ab",), ("a, b",), (1, 2), (12,), ("1", "2"), ("1", 2)]]
    assert len({tuple(d) for d in drawn}) == len(drawn)


def test_seeds_that_share_their_low_32_bits_are_different():
    assert numbers(Streams(5), "x") != numbers(Streams(5 + 2**32), "x")
    assert numbers(Streams(0), "x") != numbers(Streams(2**64), "x")


def test_ranks_have_their_own_numbers_and_share_the_rest():
    assert numbers(Streams(3), "step", rank=0) != numbers(Streams(3), "step", rank=1)
    assert numbers(Streams(3), "data") == numbers(Streams(3), "data")
    assert numbers(Streams(3), "step") != numbers(Streams(3), "step", rank=0)


def test_a_stream_keeps_its_position():
    streams = Streams(0)
    assert streams.generator("a") is streams.generator("a")
    assert numbers(streams, "a") != numbers(streams, "a")


def test_streams_are_uniform_normal_and_uncorrelated():
    # Four p-values at a threshold of 1e-4: false-alarm rate 4e-4; the seed is fixed.
    streams = Streams(11)
    uniform = torch.rand(100_000, generator=streams.generator("u"), dtype=torch.float64).numpy()
    normal = torch.randn(100_000, generator=streams.generator("n"), dtype=torch.float64).numpy()
    first = np.array([torch.rand((), generator=streams.generator("many", i), dtype=torch.float64) for i in range(2000)])
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4
    assert stats.kstest(normal, "norm").pvalue > 1e-4
    assert stats.kstest(first, "uniform").pvalue > 1e-4
    assert stats.pearsonr(first[:-1], first[1:]).pvalue > 1e-4


def test_whole_mersenne_state_is_seeded():
    # manual_seed expands 32 bits by a recurrence; ours fills 624 independent words that no 32-bit seed reproduces.
    state = Streams(0).generator("a").get_state().numpy()
    words = state[24 : 24 + 624 * 8].view("<u8")
    again = torch.Generator().manual_seed(int(words[0])).get_state().numpy()[24 : 24 + 624 * 8].view("<u8")
    assert words[0] == again[0]
    assert (words[1:] != again[1:]).all()


def test_scope_swaps_the_global_generator_in_and_out():
    streams, before = Streams(0), torch.random.get_rng_state()
    with streams.scope("init"):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    with streams.scope("init"):
        second = torch.rand(3)
    expected = torch.rand(6, generator=Streams(0).generator("init"))
    assert torch.equal(torch.cat([first, second]), expected)


def test_scope_puts_the_global_generator_back_after_an_exception():
    streams, before = Streams(0), torch.random.get_rng_state()

    def draw_and_fail():
        with streams.scope("init"):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(
        torch.rand(1, generator=streams.generator("init")), torch.rand(4, generator=Streams(0).generator("init"))[3:]
    )


def test_dropout_draws_from_its_scope():
    layer = torch.nn.Dropout()
    with Streams(1).scope("step"):
        one = layer(torch.ones(64))
    with Streams(1).scope("step"):
        same = layer(torch.ones(64))
    with Streams(2).scope("step"):
        other = layer(torch.ones(64))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_state_round_trip_continues_every_stream(tmp_path):
    streams = Streams(4)
    torch.randn(5, generator=streams.generator("a", rank=1))
    streams.numpy("b").random(3, dtype=np.float32)
    torch.save(streams.state_dict(), tmp_path / "state.pt")
    expected = numbers(streams, "a", rank=1), streams.numpy("b").random(4).tolist(), numbers(streams, "c")

    again = Streams(4)
    handed_out = again.generator("a", rank=1)
    numbers(again, "c")  # a stream that the state does not know starts from its beginning
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.generator("a", rank=1) is handed_out
    assert (numbers(again, "a", rank=1), again.numpy("b").random(4).tolist(), numbers(again, "c")) == expected


def test_state_of_another_seed_is_refused():
    with pytest.raises(ValueError, match="seed 1, these have seed 0"):
        Streams(0).load_state_dict(Streams(1).state_dict())


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Streams(-1), "seed must not be negative, got -1"),
        (lambda: Streams(0.5), "seed must be an integer, got 0.5"),
        (lambda: Streams(0).generator(), "at least one name"),
        (lambda: Streams(0).generator(1.5), "strings and integers, got 1.5"),
        (lambda: derive_key(0), "at least one name"),
        (lambda: Streams(0).worker_seeds(-1, "a"), "count must not be negative, got -1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
