"""S4 is its affine recursion on a Gaussian, of first order, with one evaluation of the score per step."""

import math

import numpy as np
import pytest
import torch

from aleator.sde import S4, VESDE, VPSDE, SubVPSDE, prior_sample, solve
from tests.sde.gaussian import covariance, exact_score, order, solved_covariance, values

VP, MIXED = (VPSDE(0.1, 5.0), VPSDE(0.1, 5.0)), (VPSDE(0.1, 5.0), VESDE(0.2, 1.0))


def recursion(sdes, steps: int, start: np.ndarray, *, official: bool = False, eps: float = 1e-4) -> np.ndarray:
    """The covariance after all steps, denoised, by the formulas of the sheet."""

    def half(sde, begin: float, end: float) -> tuple[float, float]:
        if isinstance(sde, VESDE):
            ratio = sde.sigma_max / sde.sigma_min
            return 1.0, sde.sigma_min**2 * (ratio ** (2 * begin) - ratio ** (2 * end))
        slope = sde.beta_max - sde.beta_min
        j = sde.beta_min * (begin - end) + slope * (begin**2 - end**2) / 2
        return math.exp(j / 2), 1 - math.exp(-j) if official else math.exp(j) - 1

    cov = start
    for t in np.linspace(1, eps, steps):
        middle, end = t - 0.5 / steps, t - 1 / steps
        if not official:
            middle, end = max(middle, 0), max(end, 0)
        first, second = ([half(sde, *ends) for sde in sdes] for ends in ((t, middle), (middle, end)))
        kick = np.diag([values(sde, t)[2] ** 2 / steps for sde in sdes]) @ -np.linalg.inv(covariance(sdes, t))
        a1, a2 = (np.diag([a for a, _ in part]) for part in (first, second))
        v1, v2 = (np.diag([v for _, v in part]) for part in (first, second))
        linear = a2 @ (a1 + kick)
        mean_cov = linear @ cov @ linear.T + a2 @ v1 @ a2
        cov = mean_cov + v2
    return mean_cov


@pytest.mark.parametrize("transition", ["exact", "official"])
@pytest.mark.parametrize("sdes", [VP, MIXED], ids=["vp", "vp and ve"])
@pytest.mark.parametrize("steps", [20, 50])
def test_its_covariance_is_that_of_the_affine_recursion(sdes, steps, transition):
    start = np.array([[1.0, 0.2], [0.2, 0.7]])
    found = solved_covariance(S4(steps, snr=0, transition=transition), sdes, start)
    np.testing.assert_allclose(found, recursion(sdes, steps, start, official=transition == "official"), rtol=1e-10)


@pytest.mark.parametrize("steps", [20, 50, 100])
def test_samples_have_the_covariance_of_the_recursion(steps):
    """Within four standard errors of three entries: a false alarm in one of 5 000 runs, and the seed is fixed."""
    n, generator = 200_000, torch.Generator().manual_seed(steps)
    like = (torch.empty(n, 1),) * 2
    init = prior_sample(VP, like, generator=generator)
    x, y = solve(exact_score(VP), VP, init, S4(steps, snr=0), generator=generator).states
    found, wanted = np.cov(torch.cat((x, y), 1).double().T.numpy()), recursion(VP, steps, np.eye(2))
    error = np.sqrt((np.outer(wanted.diagonal(), wanted.diagonal()) + wanted**2) / n)
    assert (np.abs(found - wanted) < 4 * error).all(), (found - wanted) / error


@pytest.mark.parametrize("transition", ["exact", "official"])
@pytest.mark.parametrize("denoise", [True, False])
def test_it_is_of_first_order(transition, denoise):
    found = order(lambda n: S4(n, snr=0, transition=transition, eps=1 / n, denoise=denoise), VP)
    assert found == pytest.approx(1.0, abs=0.02)


def test_the_exact_transition_has_the_smaller_error():
    truth = covariance(VP, 0)
    errors = [
        np.linalg.norm(solved_covariance(S4(200, snr=0, transition=how, eps=1 / 200), VP, covariance(VP, 1)) - truth)
        for how in ("exact", "official")
    ]
    assert errors[0] < 0.7 * errors[1]


def test_more_steps_do_not_close_the_gap_of_the_prior():
    sdes = (VPSDE(0.1, 1.0), VPSDE(0.1, 1.0))

    def error(start, steps):
        return np.linalg.norm(solved_covariance(S4(steps, snr=0, eps=1 / steps), sdes, start) - covariance(sdes, 0))

    from_prior = [error(np.eye(2), n) for n in (50, 200)]
    assert from_prior[1] > 0.9 * from_prior[0] > 0.2
    assert error(covariance(sdes, 1), 200) < 0.05 * from_prior[1]


def test_noise_is_drawn_for_the_correction_the_first_and_the_second_half():
    asked = []

    def noise(like, state, generator):
        asked.append(state)
        return torch.zeros_like(like)

    init = (torch.ones(3, 1), torch.ones(3, 2, 2))
    solution = solve(lambda x, t: x, VP, init, S4(5, snr=0.1), generator=torch.Generator(), noise=noise)
    assert asked == [0, 1] * 3 * 5
    assert solution.nfe == 5
    asked.clear()
    solve(lambda x, t: x, VP, init, S4(5, snr=0), generator=torch.Generator(), noise=noise)
    assert asked == [0, 1] * 2 * 5


def test_one_step_is_its_four_parts_by_hand():
    sde, h, x0, z = VESDE(0.5, 1.0), 1.0, torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, -2.0]])
    s = -x0
    size = 2 * (0.1 * math.sqrt(5) / 5) ** 2
    x = x0 + size * s + math.sqrt(2 * size) * 0.3 * z
    x = x + math.sqrt(1 - 0.5) * z  # sigma² is 1 at t = 1 and 0.5 at t = 0.5
    x = x + h * 2 * math.log(2) * s
    found = solve(
        lambda states, time: (-states[0],),
        (sde,),
        (x0,),
        S4(1, snr=0.1, scale_eps=0.3),
        generator=torch.Generator(),
        noise=lambda like, state, generator: z,
    )
    torch.testing.assert_close(found.states[0], x)


@pytest.mark.parametrize("sde", [VPSDE(0.1, 20), VESDE(0.2, 1)], ids=str)
def test_the_exact_transition_never_leaves_the_unit_interval(sde):
    asked = []

    class Watched(type(sde)):
        def reverse_transition(self, start, end, *, official=False):
            asked.extend([float(start.min()), float(end.min())])
            return super().reverse_transition(start, end, official=official)

    watched = Watched(*(getattr(sde, name) for name in list(sde.__dataclass_fields__)[:2]))
    init = (torch.ones(2, 1),)
    found = solve(lambda x, t: (-x[0],), (watched,), init, S4(10, snr=0), generator=torch.Generator().manual_seed(0))
    assert min(asked) == 0
    assert found.states[0].isfinite().all()
    asked.clear()
    if isinstance(sde, VESDE):
        official = S4(10, snr=0, transition="official")
        solve(lambda x, t: (-x[0],), (watched,), init, official, generator=torch.Generator().manual_seed(0))
        assert min(asked) == pytest.approx(1e-4 - 0.1)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("denoise", "steps", "refused"), [(True, 100, False), (False, 100, True), (True, 20, True), (False, 1000, False)]
)
def test_the_official_transition_is_refused_where_it_would_not_be_a_number(denoise, steps, refused):
    solver = S4(steps, transition="official", denoise=denoise)
    sdes, init, generator = (VPSDE(0.1, 20),), (torch.ones(2, 1),), torch.Generator().manual_seed(0)
    if refused:
        with pytest.raises(ValueError, match=f"beta of VPSDE.* is negative, got {steps}"):
            solve(lambda x, t: (-x[0],), sdes, init, solver, generator=generator)
    else:
        found = solve(lambda x, t: (-x[0],), sdes, init, solver, generator=generator)
        assert found.states[0].isfinite().all()


@pytest.mark.plain
def test_subvp_is_refused_before_any_work():
    def score(states, t):
        raise AssertionError("the score was evaluated")

    with pytest.raises(NotImplementedError, match="S4 needs a process with a reverse transition"):
        solve(score, (VPSDE(), SubVPSDE()), (torch.ones(2, 1),) * 2, S4(10), generator=torch.Generator())
