"""PINN: it learns, keeps its word about seeds and files, and refuses what it cannot do."""

import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from aleator.gradients import SDGD, Exact, Hutchinson, WithDerivatives
from aleator.pde import PINN, Ball, Box, Dirichlet, Equation, Gaussian, Initial, mlp, pinn_loss, problems
from aleator.random import Streams


def small(inputs: int, outputs: int = 1, seed: int = 0) -> nn.Sequential:
    with Streams(seed).scope("init"):
        return mlp(inputs, outputs, width=24, layers=3)


@pytest.mark.plain
def test_a_problem_is_learned_beyond_its_trivial_predictor():
    problem = problems.TwoBody("poisson", 6)
    pinn = PINN(problem, network=small(6), estimator=SDGD(3), points=32).fit(200, lr=1e-2)
    found = pinn.figures(500)
    assert found.factor > 1.3
    assert found.relative_l2 * found.factor == pytest.approx(found.trivial_l2)
    assert found.beyond == pytest.approx(1 / found.factor)


@pytest.mark.plain
def test_an_equation_of_ones_own_with_soft_conditions_is_learned():
    """The heat equation u_t = Δu in a square, where u = e^{-2t} sin x sin y."""

    def u(x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-2 * x[:, 2]) * torch.sin(x[:, 0]) * torch.sin(x[:, 1])

    pinn = PINN(
        lambda *, u_t, lap: u_t - lap,
        Box(2, (0.0, 1.0), 0.0, math.pi),
        (Initial(u, weight=10.0), Dirichlet(0.0, weight=10.0)),
        network=small(3),
        points=32,
    )
    x = pinn.domain.sample(500, Streams(1).generator("test"))
    before = float((pinn.predict(x) - u(x)).square().mean().sqrt())
    pinn.fit(150, lr=2e-2)
    after = float((pinn.predict(x) - u(x)).square().mean().sqrt())
    assert after < 0.3 * before


@pytest.mark.plain
def test_two_outputs_are_learned_together():
    """Δu = 8 v and Δv = 0 in a disc, with the values 0 and x₁ on the circle: u = x₁ (|x|² − 1) and v = x₁."""
    d = 2
    equation = Equation(lambda *, x, u, lap: torch.stack([lap[:, 0] - 8 * u[:, 1], lap[:, 1]], 1), outputs=2)

    def values(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1] * 0, x[:, :1]], 1)

    pinn = PINN(equation, Ball(d), (Dirichlet(values, hard=True),), network=small(d, 2), points=32).fit(200, lr=2e-2)
    x = pinn.domain.sample(300, Streams(1).generator("test"))
    # Δ(x₁ |x|²) = (2 d + 4) x₁ = 8 x₁ in two dimensions.
    exact = torch.stack([x[:, 0] * (x.square().sum(1) - 1), x[:, 0]], 1)
    found = pinn.predict(x)
    assert found.shape == (300, 2)
    error = (found - exact).square().mean(0).sqrt() / exact.square().mean(0).sqrt()
    assert float(error.max()) < 0.1


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed: int) -> torch.Tensor:
        pinn = PINN(problems.TwoBody("poisson", 5), network=small(5), estimator=SDGD(2), points=8, seed=seed).fit(3)
        return torch.cat([p.detach().flatten() for p in pinn.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_fitting_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    PINN(problems.HJBLog(4), estimator=Hutchinson(2), points=8).fit(2)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "problem",
    [
        problems.TwoBody("allen-cahn", 5, 3),
        problems.ThreeBody("poisson", 4, coefficients=torch.tensor([0.5, 2.0])),
        problems.HJBRosenbrock(4, seed=2, samples=500),
        problems.Semilinear("sine-gordon", 10),
        problems.Wave(3, horizon=2.0),
        problems.HarmonicOscillator(3, radius=2.0),
        problems.BlackScholesBarenblatt(3),
        problems.HJBLog(3, mu=2.0),
        problems.HJBLinear(3),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_saved_problem_is_read_back_with_its_figures(problem, tmp_path):
    pinn = PINN(problem, network=small(problem.domain.coordinates), estimator=SDGD(2), points=8).fit(2)
    pinn.save(tmp_path / "pinn.safetensors")
    read = PINN.load(tmp_path / "pinn.safetensors")
    assert type(read.problem) is type(problem)
    assert read.figures(20) == pinn.figures(20)
    assert read.steps == 2


def test_an_equation_of_ones_own_is_given_again_when_it_is_read(tmp_path):
    conditions = (Dirichlet(1.0, hard=True),)
    pinn = PINN(lambda *, lap: lap - 1, Ball(3, radius=2.0), conditions, network=small(3).double(), points=8).fit(2)
    path = tmp_path / "pinn.safetensors"
    pinn.save(path)
    read = PINN.load(path, lambda *, lap: lap - 1, conditions)
    x = pinn.domain.sample(5, torch.Generator(), torch.float64)
    assert torch.equal(read.predict(x), pinn.predict(x))
    assert read.domain == pinn.domain
    for arguments, line in (
        ((), "equation must be given"),
        ((lambda *, lap: lap,), "conditions must be the 1 that .* was saved with, got 0"),
    ):
        with pytest.raises(ValueError, match=line):
            PINN.load(path, *arguments)


def test_a_network_of_ones_own_is_given_again_when_it_is_read(tmp_path):
    def own() -> nn.Module:
        with Streams(0).scope("init"):
            return nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1))

    path = tmp_path / "pinn.safetensors"
    pinn = PINN(problems.TwoBody("poisson", 3), network=own(), estimator=SDGD(1), points=8).fit(2)
    pinn.save(path)
    with pytest.raises(ValueError, match="network must be given"):
        PINN.load(path)
    assert PINN.load(path, network=own()).figures(20) == pinn.figures(20)


@pytest.mark.plain
def test_lbfgs_is_refused_with_samples_and_descends_without():
    problem = problems.TwoBody("poisson", 4)
    for estimator in (SDGD(2), Hutchinson(2)):
        with pytest.raises(ValueError, match="optimizer must not be LBFGS with sampled dimensions"):
            PINN(problem, network=small(4), estimator=estimator).fit(1, optimizer=torch.optim.LBFGS)
    pinn = PINN(problem, network=small(4), estimator=Exact(), points=64)
    before = pinn.figures(200).relative_l2
    pinn.fit(8, optimizer=lambda p: torch.optim.LBFGS(p, max_iter=10, line_search_fn="strong_wolfe"))
    assert pinn.figures(200).relative_l2 < 0.3 * before


def test_points_outside_the_domain_are_refused():
    pinn = PINN(problems.TwoBody("poisson", 3), network=small(3), estimator=SDGD(1))
    with pytest.raises(ValueError, match="x must lie in the ball of radius 1 in 3 dimensions, got 1 points outside"):
        pinn.predict(torch.full((2, 3), 0.9) * torch.tensor([[1.0], [0.1]]))
    assert pinn.predict(torch.full((2, 3), 0.9), check=False).shape == (2,)


def test_distributed_networks_must_return_their_derivatives(tmp_path):
    """Derivatives of what DistributedDataParallel returns leave processes with different gradients."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        x, sets = torch.zeros(2, 3), (None, torch.tensor([0]))
        equation = Equation(lambda *, lap: lap)
        right = DistributedDataParallel(WithDerivatives(small(3)))
        assert pinn_loss(equation, right, x, 3, sets)[0].requires_grad
        with pytest.raises(ValueError, match="net must be a WithDerivatives inside DistributedDataParallel"):
            pinn_loss(equation, DistributedDataParallel(small(3)), x, 3, sets)
        with pytest.raises(ValueError, match="net must not be sharded"):
            pinn_loss(equation, fully_shard(small(3), mesh=init_device_mesh("cpu", (1,))), x, 3, sets)
    finally:
        dist.destroy_process_group()


def test_a_loss_that_is_not_finite_ends_the_fit():
    pinn = PINN(problems.TwoBody("poisson", 3), network=small(3), estimator=SDGD(1), points=8)
    with pytest.raises(FloatingPointError, match="the loss of step 5 is not finite"):
        pinn.fit(5, lr=1e30)


@pytest.mark.plain
def test_bad_arguments_are_one_line_each(tmp_path):
    def laplace(*, lap):
        return lap

    (tmp_path / "text").write_text("no model")
    problem = problems.TwoBody("poisson", 3)
    refused = {
        lambda: PINN(laplace): "domain must be given for an equation of one's own, got None",
        lambda: PINN(problem, Ball(3)): "domain and conditions cannot be used with TwoBody, which has them",
        lambda: PINN(
            laplace, Ball(3, (0.0, 1.0))
        ): r"time must fit the residual, which has no u_t, got time \(0.0, 1.0\)",
        lambda: PINN(lambda *, lap, u_t: lap + u_t, Ball(3)): "which has u_t, got time None",
        lambda: PINN(laplace, Gaussian(3), (Dirichlet(),)): "Dirichlet needs a domain with a boundary, got Gaussian",
        lambda: PINN(lambda *, lap: lap**2, Ball(3)): "residual must be affine in lap",
        lambda: PINN(problem, estimator=SDGD(4)): "batch must be",
        lambda: PINN(problem, points=0): "points must be at least 1, got 0",
        lambda: PINN(problem, estimator=SDGD(1)).fit(0): "steps must be at least 1, got 0",
        lambda: PINN(problem, estimator=SDGD(1)).fit(1, lr=-1.0): "lr must be positive and finite, got -1.0",
        lambda: PINN(laplace, Ball(3)).figures(): "figures need a problem whose solution is known",
        lambda: PINN(problem, network=small(3, 2)): r"network must return \(n, 1\) for the outputs of the equation",
        lambda: PINN.load(tmp_path / "text"): "is not a saved PINN",
        lambda: PINN(problem, network=small(3).half()): "net must compute in float32 or float64",
        lambda: mlp(3, activation="relu"): "activation must be one of tanh, gelu, silu, softplus, got 'relu'",
        lambda: mlp(3, layers=1): "layers must be at least 2, got 1",
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()


def test_a_pinn_that_was_read_back_goes_on_as_the_one_that_was_saved(tmp_path):
    problem = problems.TwoBody("poisson", 5)
    pinn = PINN(problem, network=small(5), estimator=SDGD(2, weight_batch=3), points=8, seed=3).fit(2)
    pinn.save(tmp_path / "pinn.safetensors")
    read = PINN.load(tmp_path / "pinn.safetensors")
    assert read.estimator == pinn.estimator
    pinn.fit(2)
    read.fit(2)
    assert all(torch.equal(a, b) for a, b in zip(pinn.parameters(), read.parameters(), strict=True))
