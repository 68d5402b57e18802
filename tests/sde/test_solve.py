"""One loop: what it passes on, what it keeps, what it refuses, and that samples belong to items."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from aleator.random import ItemGenerator
from aleator.sde import (
    S4,
    VESDE,
    VPSDE,
    EulerMaruyama,
    PredictorCorrector,
    ReverseDiffusion,
    System,
    gaussian_noise,
    prior_sample,
    solve,
)

SDES = (VPSDE(0.1, 1.0), VESDE(0.2, 1.5))
SOLVERS = [
    EulerMaruyama(8),
    ReverseDiffusion(8),
    PredictorCorrector(8, per_graph=True),
    PredictorCorrector(8, predictor="ancestral", per_graph=True),
    S4(8, per_graph=True),
    S4(8, per_graph=True, transition="official"),
]
NAMES = ["euler", "ancestral", "pc", "pc ancestral", "s4", "s4 official"]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=NAMES)


def coupled(states, t):
    x, y = states
    return -x - 0.1 * y.mean((1, 2), keepdim=True)[..., 0], -y + 0.2 * x.tanh().sum(1)[:, None, None]


def like(items: int, dtype=torch.float64):
    return torch.empty(items, 5, dtype=dtype), torch.empty(items, 3, 3, dtype=dtype)


def sample(solver, items, key=7, dtype=torch.float64):
    generator = ItemGenerator(key, items)
    init = prior_sample(SDES, like(len(items), dtype), generator=generator)
    return solve(coupled, SDES, init, solver, generator=generator).states


@every_solver
def test_a_sample_does_not_depend_on_its_batch_or_on_who_draws_it(solver):
    """As two processes share a request: each takes every other item."""
    whole = sample(solver, range(7))
    for part in (range(0, 7, 2), range(1, 7, 2), [3], range(6, -1, -1)):
        for a, b in zip(sample(solver, part), whole, strict=True):
            torch.testing.assert_close(a, b[list(part)], rtol=1e-12, atol=1e-12)


def test_with_norms_of_the_batch_it_does():
    solver = S4(8, snr=0.2)
    assert not torch.allclose(sample(solver, range(7))[0][:3], sample(solver, range(3))[0], rtol=1e-3)


@every_solver
def test_the_seed_decides(solver):
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        init = prior_sample(SDES, like(4), generator=generator)
        return solve(coupled, SDES, init, solver, generator=generator).states

    assert all(torch.equal(a, b) for a, b in zip(run(1), run(1), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(run(1), run(2), strict=True))


@every_solver
def test_what_is_masked_stays_exactly_zero_and_what_is_symmetric_symmetric(solver):
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    square = mask[:, :, None] * mask[:, None, :] * (1 - torch.eye(3))
    seen = []

    def constrain(states):
        return states[0] * mask, states[1] * square

    def symmetric(like, state, generator):
        z = gaussian_noise(like, state, generator)
        return z.triu(1) + z.triu(1).mT if state == 1 else z

    def score(states, t):
        seen.append(states)
        # The second is symmetric by itself; padding is left to the constraint.
        return -states[0] + 1, -states[1] + 0.1 * states[0].sum(1)[:, None, None]

    generator = torch.Generator().manual_seed(0)
    init = prior_sample(SDES, (torch.empty(2, 3), torch.empty(2, 3, 3)), generator=generator, noise=symmetric)
    found = solve(score, SDES, init, solver, generator=generator, noise=symmetric, constrain=constrain)
    for x, adj in [*seen, found.states]:
        assert (x[mask == 0] == 0).all()
        assert (adj[square == 0] == 0).all()
        assert torch.equal(adj, adj.mT)
    assert (found.states[0][mask == 1] != 0).all()


@every_solver
def test_the_score_is_asked_without_gradients_at_times_of_the_grid(solver):
    times = []

    def score(states, t):
        assert not torch.is_grad_enabled()
        assert t.shape == (4,)
        assert (t == t[0]).all()
        times.append(float(t[0]))
        return tuple(-x for x in states)

    found = solve(score, SDES, like_zeros(4), solver, generator=torch.Generator().manual_seed(0))
    assert sorted(set(times), reverse=True) == pytest.approx(torch.linspace(1, 1e-4, 8).tolist(), rel=1e-6)
    assert found.nfe == len(times)


def like_zeros(items):
    return tuple(torch.zeros_like(x) for x in like(items, torch.float32))


@every_solver
def test_a_step_asks_the_device_for_nothing(solver):
    """Fake tensors hold no numbers: code that asks for one fails."""
    with FakeTensorMode():
        system = System(coupled, SDES, torch.Generator(), lambda x, state, g: torch.ones_like(x), None)
        states, t = like(4), torch.empty(4, dtype=torch.float64)
        states, means = solver.step(system, states, t)
        assert [x.shape for x in states] == [x.shape for x in means] == [(4, 5), (4, 3, 3)]
        with pytest.raises(DataDependentOutputException):
            float(states[0].sum())


def test_the_prior_has_the_deviations_of_the_processes():
    generator = torch.Generator().manual_seed(0)
    x, y = prior_sample(SDES, (torch.empty(40_000), torch.empty(200, 200)), generator=generator)
    assert float(x.std()) == pytest.approx(1.0, abs=0.015)  # 4 standard errors are 0.014
    assert float(y.std()) == pytest.approx(1.5, abs=0.022)


def test_denoising_takes_the_noise_of_the_last_step_away():
    init = (torch.zeros(20_000, 1),)
    spread = {
        denoise: float(
            solve(
                lambda x, t: (-1000 * x[0],),
                (VPSDE(0.1, 1),),
                init,
                EulerMaruyama(1, denoise=denoise),
                generator=torch.Generator().manual_seed(0),
            )
            .states[0]
            .std()
        )
        for denoise in (True, False)
    }
    assert spread[True] == 0
    assert spread[False] == pytest.approx(1, abs=0.02)  # g(1)/√1


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"init": (torch.zeros(2, 1),)}, "init must have one state for each of 2 processes, got 1"),
        (
            {"init": (torch.zeros(2, 1), torch.zeros(3, 1))},
            "of 2 items each, got torch.float32 of 3 for state 1",
        ),
        ({"init": (torch.zeros(2, 1).half(),) * 2}, "got torch.float16 of 2 for state 0"),
        (
            {"init": (torch.zeros(2, 1), torch.tensor([[1.0], [math.nan]]))},
            "init must be finite, got 1 other numbers in state 1",
        ),
        ({"score": lambda x, t: (x[0],)}, r"score must return shapes \[\(2, 1\), \(2, 1\)\], got \[\(2, 1\)\]"),
        ({"score": lambda x, t: (x[0], x[1][:1])}, r"got \[\(2, 1\), \(1, 1\)\]"),
    ],
    ids=range(6),
)
def test_what_does_not_fit_is_refused(change, reason):
    arguments = {"score": coupled, "sdes": SDES, "init": (torch.zeros(2, 1),) * 2, "solver": S4(3)} | change
    with pytest.raises(ValueError, match=reason):
        solve(**arguments, generator=torch.Generator())


@pytest.mark.plain
def test_a_compiled_score_gives_the_same_samples_and_is_compiled_once():
    weight = torch.eye(5) + 0.1
    graphs = 0

    def backend(graph, inputs):
        nonlocal graphs
        graphs += 1
        return graph.forward

    def score(states, t):
        return (-(states[0] @ weight).tanh() / (1 + t[:, None]),)

    compiled = torch.compile(score, backend=backend, fullgraph=True)
    for solver in (S4(6), PredictorCorrector(6)):
        found = [
            solve(s, SDES[:1], (torch.ones(4, 5),), solver, generator=torch.Generator().manual_seed(0)).states[0]
            for s in (score, compiled)
        ]
        assert torch.equal(*found)
    assert graphs == 1
