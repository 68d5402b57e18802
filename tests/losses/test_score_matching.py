"""Denoising score matching: its value at the true score, its shares, and what it draws."""

import math

import pytest
import torch

from aleator.losses import denoising_score_matching
from aleator.sde import VESDE, VPSDE, SubVPSDE, gaussian_noise
from tests.sde.gaussian import DATA, covariance, exact_score

SDES = (VPSDE(0.1, 5.0), VESDE(0.2, 1.0))


@pytest.mark.parametrize("sde", [VPSDE(0.1, 5), VESDE(0.2, 1), SubVPSDE(0.1, 5)], ids=["vp", "ve", "sub-vp"])
@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
def test_at_the_true_score_of_a_gaussian_it_is_its_floor(sde, t):
    """½ d m² c² / (m² c² + s²), within four standard errors of half a chi-square mean."""
    n, d, c = 50_000, 3, 0.7
    generator = torch.Generator().manual_seed(0)
    clean = c * torch.randn(n, d, generator=generator, dtype=torch.float64)
    times = torch.full((n,), t, dtype=torch.float64)
    m, s = (float(v) for v in sde.marginal(times[0]))
    variance = (m * c) ** 2 + s**2
    (loss,) = denoising_score_matching(lambda x, t: (-x[0] / variance,), (sde,), (clean,), times, generator=generator)
    floor = 0.5 * d * (m * c) ** 2 / variance
    assert float(loss) == pytest.approx(floor, rel=4 * math.sqrt(2 / (n * d)))


def test_of_coupled_states_each_loss_is_at_the_floor_of_its_partial_score():
    """(S_i s_i + z_i) has, at the true joint score, the variance 1 − s_i² (Σ⁻¹)_ii."""
    n, t = 100_000, 0.4
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(torch.from_numpy(DATA))
    clean = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ root.T
    times = torch.full((n,), t, dtype=torch.float64)
    states = clean[:, :1], clean[:, 1:]
    losses = denoising_score_matching(exact_score(SDES), SDES, states, times, generator=generator)
    precision = torch.linalg.inv(torch.from_numpy(covariance(SDES, t)))
    for i, (sde, loss) in enumerate(zip(SDES, losses, strict=True)):
        floor = 0.5 * (1 - float(sde.marginal(times[0])[1] ** 2 * precision[i, i]))
        assert float(loss) == pytest.approx(floor, rel=4 * math.sqrt(2 / n))


def test_learning_a_linear_score_finds_the_true_one():
    """The minimiser over linear maps of (x_t, y_t), by least squares in closed form from the loss's own gradients."""
    n, t = 200_000, 0.4
    generator = torch.Generator().manual_seed(1)
    clean = (
        torch.randn(n, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(torch.from_numpy(DATA)).T
    )
    times = torch.full((n,), t, dtype=torch.float64)
    z = torch.randn(2, n, 1, generator=generator, dtype=torch.float64).unbind()
    weight = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)

    def losses():
        def score(states, t):
            joint = torch.cat(states, 1) @ weight.T
            return joint[:, :1], joint[:, 1:]

        return denoising_score_matching(score, SDES, (clean[:, :1], clean[:, 1:]), times, z)

    optimizer = torch.optim.LBFGS([weight], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = sum(losses())
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(
        weight.detach(), -torch.linalg.inv(torch.from_numpy(covariance(SDES, t))), rtol=0.03, atol=0.02
    )


X, ADJ = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.arange(8.0).reshape(2, 2, 2)
Z = (torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.ones(2, 2, 2))
TIMES = torch.tensor([0.3, 0.8])


def score(states, t):
    return 2 * states[0], -states[1]


def by_hand(i, item):
    m, s = (v[item] for v in SDES[i].marginal(TIMES))
    noisy = m * (X, ADJ)[i][item] + s * Z[i][item]
    return s, (2 * noisy if i == 0 else -noisy), Z[i][item]


def test_the_three_weightings_are_their_formulas():
    def value(**options):
        return denoising_score_matching(score, SDES, (X, ADJ), TIMES, Z, **options)

    for i in (0, 1):
        parts = [by_hand(i, item) for item in (0, 1)]
        g2 = SDES[i].diffusion(TIMES).square()
        half_sums = [0.5 * (s * guess + z).square().sum() for s, guess, z in parts]
        means = [(s * guess + z).square().mean() for s, guess, z in parts]
        likelihood = [0.5 * (guess + z / s).square().sum() * g2[b] for b, (s, guess, z) in enumerate(parts)]
        torch.testing.assert_close(value()[i], torch.stack(half_sums).mean())
        torch.testing.assert_close(value(reduce_mean=True)[i], torch.stack(means).mean())
        torch.testing.assert_close(value(likelihood_weighting=True)[i], torch.stack(likelihood).mean())


def test_one_time_of_each_item_is_shared_by_its_states_and_drawn_first():
    seen = []

    def watching(states, t):
        seen.append(t)
        return score(states, t)

    states = (torch.zeros(1000, 2), torch.zeros(1000, 3, 3))
    denoising_score_matching(watching, SDES, states, generator=torch.Generator().manual_seed(5), eps=0.25)
    assert len(seen) == 1
    wanted = 0.25 + 0.75 * torch.rand(1000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(seen[0], wanted)
    assert 0.25 <= float(wanted.min()) < 0.26


def test_the_same_generator_gives_the_same_loss_and_another_another():
    def value(seed):
        return denoising_score_matching(score, SDES, (X, ADJ), generator=torch.Generator().manual_seed(seed))

    assert value(0) == value(0)
    assert value(0) != value(1)


def test_a_constraint_is_on_noise_states_and_scores():
    def constrain(states):
        return states[0] * torch.tensor([1.0, 0.0]), states[1]

    def watching(states, t):
        assert (states[0][:, 1] == 0).all()
        return torch.ones_like(states[0]), torch.zeros_like(states[1])

    masked = denoising_score_matching(watching, SDES, (X, ADJ), TIMES, Z, constrain=constrain)
    s = SDES[0].marginal(TIMES)[1]
    torch.testing.assert_close(masked[0], 0.5 * (s + Z[0][:, 0]).square().mean())
    torch.testing.assert_close(masked[1], 0.5 * Z[1].square().flatten(1).sum(1).mean())


def test_gradients_reach_the_score_through_the_loss_of_its_state_alone():
    weights = torch.ones(2, requires_grad=True)
    losses = denoising_score_matching(lambda x, t: (weights[0] * x[0], weights[1] * x[1]), SDES, (X, ADJ), TIMES, Z)
    (gradient,) = torch.autograd.grad(losses[0], weights)
    assert gradient[0] != 0
    assert gradient[1] == 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"eps": 1.0}, r"eps must be in \[0, 1\), got 1.0"),
        ({"eps": math.nan}, r"eps must be in \[0, 1\), got nan"),
        ({"states": (X,)}, "states must be one for each of 2 processes, got 1"),
        ({"t": torch.ones(3)}, r"t must have shape \(2,\), one time for each item, got \(3,\)"),
        ({"t": None}, "generator must be given where t has to be drawn, got None"),
        ({"noise": gaussian_noise}, "generator must be given where noise has to be drawn, got None"),
        ({"noise": Z[:1]}, r"noise must have shapes \[\(2, 2\), \(2, 2, 2\)\], got \[\(2, 2\)\]"),
        ({"score": lambda x, t: (x[0], x[0])}, r"score must have shapes .* got \[\(2, 2\), \(2, 2\)\]"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_is_refused(change, reason):
    arguments = {"score": score, "sdes": SDES, "states": (X, ADJ), "t": TIMES, "noise": Z} | change
    with pytest.raises(ValueError, match=reason):
        denoising_score_matching(**arguments)


@pytest.mark.plain
def test_it_compiles_to_the_same_loss():
    compiled = torch.compile(denoising_score_matching, backend="aot_eager", fullgraph=True)
    one, other = (f(score, SDES, (X, ADJ), TIMES, Z) for f in (compiled, denoising_score_matching))
    torch.testing.assert_close(one, other)
