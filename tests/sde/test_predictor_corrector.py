"""Euler-Maruyama, reverse diffusion, and either of them after a Langevin corrector."""

import math

import numpy as np
import pytest
import torch

from aleator.sde import (
    VESDE,
    VPSDE,
    EulerMaruyama,
    LangevinCorrector,
    PredictorCorrector,
    ReverseDiffusion,
    SubVPSDE,
    System,
    gaussian_noise,
    solve,
)
from tests.sde.gaussian import covariance, order, solved_covariance

VP, MIXED = (VPSDE(0.1, 5.0), VPSDE(0.1, 5.0)), (VPSDE(0.1, 5.0), VESDE(0.2, 1.0))
SUB = (SubVPSDE(0.1, 5.0), SubVPSDE(0.1, 5.0))
ONE = torch.ones(1, 1, dtype=torch.float64)


def run(solver, sdes, init, score=lambda x, t: tuple(-y for y in x), noise=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if noise is None:
        return solve(score, sdes, init, solver, generator=generator)
    return solve(score, sdes, init, solver, generator=generator, noise=noise)


@pytest.mark.parametrize("sdes", [VP, MIXED, SUB], ids=["vp", "vp and ve", "sub-vp"])
@pytest.mark.parametrize("denoise", [True, False])
def test_euler_is_of_first_order(sdes, denoise):
    assert order(lambda n: EulerMaruyama(n, eps=1 / n, denoise=denoise), sdes) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", [EulerMaruyama, ReverseDiffusion])
def test_the_probability_flow_carries_a_gaussian_to_the_data_and_draws_nothing(kind):
    def no_noise(like, state, generator):
        raise AssertionError("noise was drawn")

    assert order(lambda n: kind(n, eps=1 / n, probability_flow=True), VP) == pytest.approx(1.0, abs=0.05)
    run(kind(5, probability_flow=True), VP, (ONE, ONE), noise=no_noise)


def test_reverse_diffusion_ends_at_the_data_from_an_exact_start():
    solver = ReverseDiffusion(400, denoise=False, eps=1 / 400)
    np.testing.assert_allclose(solved_covariance(solver, VP, covariance(VP, 1)), covariance(VP, 0), atol=0.02)


def test_one_step_of_euler_by_hand():
    x, z = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 3.0]])
    mean = x - (-2 * x - 4 * -x)  # at t = 1 beta is 4: f = −2x, g² = 4, and the score is −x
    for denoise, wanted in ((True, mean), (False, mean + 2 * z)):
        found = run(EulerMaruyama(1, denoise=denoise), (VPSDE(1, 4),), (x,), noise=lambda like, state, generator: z)
        torch.testing.assert_close(found.states[0], wanted)


def test_the_corrector_makes_the_step_of_its_formula():
    x, z = torch.tensor([[3.0, 4.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    for per_graph in (True, False):
        solver = PredictorCorrector(1, snr=0.1, scale_eps=0.5, per_graph=per_graph, probability_flow=True)
        ratios = torch.tensor([1 / 5, 3 / 1]) if per_graph else torch.tensor([2 / 3, 2 / 3])  # means of 1, 3 and 5, 1
        size = 2 * (1 - 0.25) * (0.1 * ratios[:, None]) ** 2  # one step: b_0 = beta_min / 1
        corrected = x - size * x + (2 * size).sqrt() * 0.5 * z
        # The predictor at t = 1, with beta = 0.5 and half the score, which is −x: x − (−x/4 + x/4).
        found = run(solver, (VPSDE(0.25, 0.5),), (x,), noise=lambda like, state, generator: z)
        torch.testing.assert_close(found.states[0], corrected)


def test_the_correction_is_damped_by_the_chain_at_its_time():
    x = torch.tensor([[3.0, 4.0]])
    system = System(lambda states, t: (-states[0],), (VPSDE(1.0, 4.0),), torch.Generator(), lambda x, i, g: x / 5, None)
    corrector = LangevinCorrector(snr=0.1, scale_eps=0.0)
    for t, damping in ((1.0, 1 - 4 / 10), (0.5, 1 - (1 + 4 / 9 * 3) / 10), (0.0, 1 - 1 / 10)):  # k = 9, 4, 0 of 0 … 9
        (moved,) = corrector.correct(system, (x,), torch.tensor([t]), 10)
        torch.testing.assert_close(moved, x - 2 * damping * (0.1 / 5) ** 2 * x)


def test_all_states_are_corrected_and_predicted_from_where_all_of_them_were():
    """The score of each state is the other one: a Gauss-Seidel sweep would read values already moved."""
    seen = []

    def score(states, t):
        seen.append(tuple(float(x) for x in states))
        return states[1], states[0]

    init = (ONE, 2 * ONE)
    sdes = (VESDE(0.5, 1),) * 2
    solver = PredictorCorrector(1, snr=0.1, scale_eps=0, denoise=True)
    found = run(solver, sdes, init, score, noise=lambda like, state, generator: torch.ones_like(like))
    size = [2 * (0.1 / 2) ** 2, 2 * 0.1**2]
    corrected = (1 + size[0] * 2, 2 + size[1] * 1)
    g2 = 2 * math.log(2)
    assert seen[0] == (1, 2)
    assert seen[1] == pytest.approx(corrected)
    assert [float(x) for x in found.states] == pytest.approx(
        [corrected[0] + g2 * corrected[1], corrected[1] + g2 * corrected[0]]
    )


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 2),
        ({"n_steps": 3}, 4),
        ({"corrector": None}, 1),
        ({"predictor": "ancestral"}, 2),
        ({"predictor": "ancestral", "corrector": None, "probability_flow": True}, 1),
    ],
    ids=range(5),
)
def test_a_step_evaluates_the_score_once_and_once_more_per_correction(options, calls):
    count = 0

    def score(states, t):
        nonlocal count
        count += 1
        return tuple(-x for x in states)

    found = run(PredictorCorrector(7, **options), VP, (ONE, ONE), score)
    assert found.nfe == count == 7 * calls


@pytest.mark.parametrize(("predictor", "kind"), [("euler", EulerMaruyama), ("ancestral", ReverseDiffusion)])
def test_without_a_corrector_it_is_its_predictor(predictor, kind):
    init = (torch.ones(4, 3), torch.ones(4, 2))
    one = run(PredictorCorrector(20, predictor=predictor, corrector=None, eps=0.01), MIXED, init)
    other = run(kind(20, eps=0.01), MIXED, init)
    assert all(torch.equal(a, b) for a, b in zip(one.states, other.states, strict=True))


def test_a_corrector_without_signal_leaves_everything_as_it_is():
    init = (torch.ones(4, 3), torch.ones(4, 2))
    one = run(PredictorCorrector(20, snr=0), MIXED, init)
    other = run(EulerMaruyama(20), MIXED, init)
    assert all(torch.equal(a, b) for a, b in zip(one.states, other.states, strict=True))


@pytest.mark.parametrize(("per_graph", "settles_at"), [(False, 1.0), (True, 1 + 4 / 40)])
def test_the_corrector_settles_at_the_marginal_of_its_time_and_with_own_norms_near_it(per_graph, settles_at):
    """From N(0, 2) in 40 dimensions, with the score of N(0, 1), full noise and small steps.

    An item's own norms make the step large where ‖z‖ is large and ‖x‖ small: each adds 2/d to the variance.
    """
    x = math.sqrt(2) * torch.randn(2500, 40, generator=torch.Generator().manual_seed(2))
    system = System(lambda states, t: (-states[0],), (VESDE(),), torch.Generator().manual_seed(3), gaussian_noise, None)
    corrector = LangevinCorrector(snr=0.05, scale_eps=1.0, n_steps=600, per_graph=per_graph)
    (moved,) = corrector.correct(system, (x,), torch.ones(2500), 1000)
    assert float(moved.var()) == pytest.approx(settles_at, abs=0.02)  # 100 000 numbers: a standard error of 0.005
    assert system.nfe == 600


def test_noise_is_drawn_for_the_corrector_and_then_for_the_predictor():
    asked = []

    def noise(like, state, generator):
        asked.append((state, like.shape))
        return torch.zeros_like(like)

    run(PredictorCorrector(5, n_steps=2), VP, (torch.ones(3, 1), torch.ones(3, 2, 2)), noise=noise)
    assert asked == [(0, (3, 1)), (1, (3, 2, 2))] * 3 * 5


def test_an_item_without_score_stays_where_it_is():
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    solver = PredictorCorrector(3, per_graph=True)
    found = run(
        solver, (VESDE(),), (x,), lambda s, t: (-s[0],), noise=lambda like, state, generator: (like != 0).float()
    )
    assert found.states[0][0].tolist() == [0, 0]
    assert found.states[0].isfinite().all()


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"snr": -0.1}, "snr must not be negative and must be finite, got -0.1"),
        ({"snr": math.nan}, "snr .* got nan"),
        ({"scale_eps": -1.0}, r"scale_eps must not be negative and must be finite, got -1\.0"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"eps": 1.0}, r"eps must be in \(0, 1\), got 1\.0"),
        ({"eps": 0.0}, r"eps must be in \(0, 1\), got 0\.0"),
        ({"eps": math.nan}, r"eps must be in \(0, 1\), got nan"),
        ({"predictor": "heun"}, 'predictor must be "euler" or "ancestral", got \'heun\''),
        ({"corrector": "mala"}, "corrector must be \"langevin\" or None, got 'mala'"),
    ],
    ids=range(10),
)
def test_options_out_of_range_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        PredictorCorrector(**options)


@pytest.mark.plain
@pytest.mark.parametrize(
    "solver",
    [ReverseDiffusion(10), PredictorCorrector(10, predictor="ancestral", corrector=None), PredictorCorrector(10)],
    ids=range(3),
)
def test_too_few_steps_for_the_chain_are_refused_before_any_work(solver):
    def score(states, t):
        raise AssertionError("the score was evaluated")

    with pytest.raises(ValueError, match="steps must be at least beta_max = 20 for b_k <= 1, got 10"):
        run(solver, (VPSDE(0.1, 20),), (ONE,), score)


def test_in_the_official_order_all_steps_of_a_state_see_the_others_as_they_were():
    # Scores that depend on the other state, so that the order matters.
    def score(states, t):
        return -states[0] - 0.5 * states[1], -states[1] + 0.3 * states[0]

    init, t = (torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, 0.5]])), torch.ones(1)
    drawn = [torch.tensor([[value, 1.0]]) for value in (0.4, -0.7, 1.3, 0.2, 0.9, -0.1)]
    asked = []

    def noise(like, state, generator):
        asked.append(state)
        return drawn[len(asked) - 1]

    corrector = LangevinCorrector(0.2, 0.7, n_steps=3, order="official")
    system = System(score, VP, torch.Generator(), noise, None)
    found = corrector.correct(system, init, t, 100)
    assert asked == [0, 0, 0, 1, 1, 1]
    assert system.nfe == 1 + 2 * 2
    damping = float(VP[0].step_damping(t, 100))
    for state in (0, 1):
        now = list(init)
        for z in drawn[3 * state : 3 * state + 3]:
            s = score(now, t)[state]
            a = 2 * damping * (0.2 * z.norm() / s.norm()) ** 2
            now[state] = now[state] + a * s + (2 * a).sqrt() * 0.7 * z
        torch.testing.assert_close(found[state], now[state])
    drawn = [torch.ones(1, 2)] * 6
    asked.clear()
    together = LangevinCorrector(0.2, 0.7, n_steps=3).correct(system, init, t, 100)
    assert asked == [0, 1] * 3
    assert not torch.allclose(together[1], found[1])


def test_one_step_is_the_same_in_both_orders():
    found = [
        run(PredictorCorrector(6, order=order), MIXED, (ONE, ONE), score=lambda x, t: (-x[1], -x[0])).states
        for order in ("simultaneous", "official")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.plain
def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match='order must be "simultaneous" or "official", got \'jacobi\''):
        PredictorCorrector(4, order="jacobi")


def test_an_item_whose_score_is_no_number_does_not_stay_where_it_was():
    system = System(lambda states, t: (states[0] * torch.nan,), VP[:1], torch.Generator(), gaussian_noise, None)
    (moved,) = LangevinCorrector().correct(system, (ONE,), torch.ones(1), 100)
    assert moved.isnan().all()
