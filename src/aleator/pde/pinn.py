"""A network that is trained to solve an equation: fit, predict, figures, save, load.

    PINN(problem)                               a problem of `aleator.pde.problems`
    PINN(residual, domain, conditions)          an equation of one's own, see `Equation`

A step draws points of the domain, dimensions for the second derivatives, and points for every soft condition:

    loss = mean r² + Σ weight · mean square by which a condition is missed
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import LBFGS, Adam, Optimizer

from aleator.gradients import SDGD, Exact
from aleator.pde import pinn_file
from aleator.pde.ansatz import columns
from aleator.pde.conditions import Condition, input_features, with_hard
from aleator.pde.derivatives import with_derivatives
from aleator.pde.domains import Domain
from aleator.pde.equation import Equation, as_equation, probe_once
from aleator.pde.errors import Figures, figures
from aleator.pde.loss import Drawn, Estimator, draw, drawn_loss
from aleator.pde.networks import mlp
from aleator.pde.problems.problem import Problem
from aleator.random import Streams

_LOOK_EVERY = 100  # steps between two looks at the loss, which make the host wait for the device
_PREDICTED_AT_A_TIME = 10_000_000  # numbers


class PINN(nn.Module):
    """A network as the solution of a partial differential equation.

    Args:
        equation: a problem, an `Equation`, or a residual function of one's own.
        domain: where it holds; a problem has its own.
        conditions: beside the equation; a problem has its own. Hard ones are built into the network.
        network: x (n, coordinates) → (n,), (n, 1) or (n, outputs). Default: four linear layers of width 128, with tanh.
            With a hard `Periodic` condition it is given cos and sin of each coordinate of space, and then time.
        estimator: of lap: `SDGD`, `Hutchinson` or `Exact`. Default: 100 dimensions, without bias, or all where
            there are no more.
        points: drawn for each step.
        condition_points: drawn for each soft condition in each step. Default: as many.
        seed: of all that is drawn: weights, points, dimensions.

    Raises:
        ValueError: if the equation has time and the domain has none, or the reverse; if the residual is not affine in
            lap; if more dimensions are to be sampled than there are; if a condition does not fit the domain.

    Example:
        >>> pinn = PINN(problems.TwoBody("allen-cahn", 20), estimator=SDGD(5)).fit(500)
        >>> u = pinn.predict(x)
    """

    def __init__(
        self,
        equation: Problem | Equation | Callable[..., Tensor],
        domain: Domain | None = None,
        conditions: Sequence[Condition] = (),
        *,
        network: nn.Module | None = None,
        estimator: Estimator | None = None,
        points: int = 100,
        condition_points: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.problem = equation if isinstance(equation, Problem) else None
        if isinstance(equation, Problem):
            if domain is not None or conditions:
                raise ValueError(f"domain and conditions cannot be used with {type(equation).__name__}, which has them")
            domain, conditions, equation = equation.domain, equation.conditions, equation.equation
        if domain is None:
            raise ValueError("domain must be given for an equation of one's own, got None")
        self.equation, self.domain = as_equation(equation), domain
        if self.equation.has_time != (domain.time is not None):
            asks = "has" if self.equation.has_time else "has no"
            raise ValueError(f"time must fit the residual, which {asks} u_t, got time {domain.time}")
        for name, value in (("points", points), ("condition_points", condition_points)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.conditions = tuple(conditions)
        for condition in self.conditions:
            condition.check(domain)
        self.points, self.condition_points = points, condition_points or points
        self.estimator = estimator or (SDGD(100) if domain.d > 100 else Exact())
        self.streams = Streams(seed)
        self.history: list[float] = []
        self.steps = 0

        inputs = input_features(domain, self.conditions)
        if network is None:
            with self.streams.scope("init"):
                network = mlp(inputs, self.equation.outputs)
        self.network = network
        inside = self.problem.ansatz(network) if self.problem else with_hard(network, domain, self.conditions)
        self.derived = with_derivatives(inside, self.equation)
        x = self._drawn_points("check", 8)
        probe_once(self.equation, domain.d, x)
        self._draw_dimensions(x, "check")
        with torch.no_grad():
            found = columns(inside(x))
        if found.shape != (8, self.equation.outputs):
            raise ValueError(
                f"network must return (n, {self.equation.outputs}) for the outputs of the equation, got "
                f"{(*found.shape[1:],)} behind n"
            )

    def forward(self, x: Float[Tensor, "n coordinates"]) -> Tensor:
        """Return u at points, with hard conditions: (n,), or (n, outputs)."""
        inside: Any = self.derived.net
        u: Tensor = inside(x)
        return u.squeeze(1) if u.ndim == 2 and u.shape[1] == 1 else u

    def fit(
        self,
        steps: int = 10_000,
        *,
        lr: float = 1e-3,
        optimizer: Callable[[Any], Optimizer] | None = None,
        callback: Callable[[int, PINN], object] | None = None,
    ) -> PINN:
        """Train for some steps, from the weights as they are.

        The learning rate falls linearly to 0, as the authors have it.

        Args:
            steps: to take.
            lr: learning rate of Adam at its highest.
            optimizer: made from the parameters instead of Adam; it has its own rate, which falls likewise. LBFGS keeps
                the points of the first step, and needs `Exact`.
            callback: called after each step with its number in this call, from 1, and this object.

        Raises:
            ValueError: if a number is not positive, or LBFGS would be given samples.
            FloatingPointError: if the loss is not finite.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        made = optimizer(self.network.parameters()) if optimizer else Adam(self.network.parameters(), lr=lr)
        searches = isinstance(made, LBFGS)
        if searches and not isinstance(self.estimator, Exact):
            raise ValueError(
                "optimizer must not be LBFGS with sampled dimensions, whose loss is another in every evaluation, got "
                f"{self.estimator}: use Exact()"
            )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            made, lambda done: 1.0 if searches else 1 - min(done, steps - 1) / steps
        )
        batch = self._batch() if searches else None
        self.train()
        for step in range(1, steps + 1):
            drawn = batch or self._batch()

            def closure(drawn: Any = drawn) -> Tensor:
                made.zero_grad()
                loss, reported = self._loss(*drawn)
                loss.backward()  # type: ignore[no-untyped-call]
                closure.reported = reported  # type: ignore[attr-defined]
                return loss

            made.step(closure)  # type: ignore[arg-type]
            schedule.step()
            self.steps += 1
            if step % _LOOK_EVERY == 0 or step == steps:
                seen = float(closure.reported)  # type: ignore[attr-defined]
                self.history.append(seen)
                if not math.isfinite(seen):
                    raise FloatingPointError(
                        f"the loss of step {self.steps} is not finite: a lower lr may do, got {lr}"
                    )
            if callback is not None:
                callback(step, self)
        return self

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "n coordinates"], *, check: bool = True) -> Tensor:
        """Return u at points, (n,) or (n, outputs), some at a time.

        Args:
            x: points (n, d), and with time (n, d + 1).
            check: whether to refuse points outside the domain, of which training knew nothing.

        Raises:
            ValueError: if a point lies outside the domain, or the shape is another.
        """
        if check:
            self.domain.check(x)
        parameter = next(self.network.parameters())
        pieces = torch.split(x.to(parameter), max(1, _PREDICTED_AT_A_TIME // self.domain.coordinates))
        mode = self.training
        self.eval()
        found = torch.cat([self(piece) for piece in pieces])
        self.train(mode)
        return found

    def figures(self, points: int = 10_000, seed: int = 0) -> Figures:
        """Return the errors at held-out points of a problem, beside those of its trivial predictor.

        Args:
            points: how many.
            seed: of the points.

        Raises:
            ValueError: if the equation is one's own, whose solution is not known.
        """
        if self.problem is None:
            raise ValueError("figures need a problem whose solution is known, got an equation of one's own")
        generator = Streams(seed).generator("held out")
        device = next(self.network.parameters()).device
        return figures(self.problem, lambda x: self.predict(x, check=False), points, generator, device)

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors), and as JSON in their metadata what they belong to.

        A problem, a domain and the default network are described; a residual, conditions and a network of one's own are
        code, and have to be given to `load`.
        """
        settings = {
            "conditions": len(self.conditions),
            "points": self.points,
            "condition_points": self.condition_points,
            "steps": self.steps,
            "seed": self.streams.seed,
            "estimator": {"kind": type(self.estimator).__name__, **asdict(self.estimator)},
        }
        pinn_file.save(path, self.network, self.problem, self.domain, settings)

    @classmethod
    def load(
        cls,
        path: str | Path,
        equation: Problem | Equation | Callable[..., Tensor] | None = None,
        conditions: Sequence[Condition] = (),
        *,
        network: nn.Module | None = None,
    ) -> PINN:
        """Read what `save` wrote; `fit` goes on with the points and dimensions that would have come next.

        Args:
            path: of the file.
            equation: of one's own; a problem is made from the file.
            conditions: of one's own.
            network: of one's own.

        Raises:
            ValueError: if the file is none of a PINN, or what it does not describe is not given.
        """
        made, about = pinn_file.read(path, equation, tuple(conditions), network)
        settings = {name: about[name] for name in ("points", "condition_points", "seed")}
        pinn = cls(**made, **settings)
        pinn.steps = about["steps"]
        return pinn

    def _batch(self) -> tuple[Tensor, Drawn, list[dict[str, Tensor]]]:
        """Draw what a step needs: points, dimensions, points of the soft conditions."""
        x = self._drawn_points("points", self.points)
        drawn = self._draw_dimensions(x, "dimensions")
        of_conditions = []
        for index, condition in enumerate(self.conditions):
            generator = self._generator("condition", index)
            own = {} if condition.hard else condition.draw(self.domain, self.condition_points, generator, x.dtype)
            of_conditions.append({name: value.to(x.device) for name, value in own.items()})
        return x, drawn, of_conditions

    def _drawn_points(self, stream: str, n: int) -> Tensor:
        parameter = next(self.network.parameters())
        draw_from = self.problem or self.domain
        return draw_from.sample(n, self._generator(stream), parameter.dtype).to(parameter.device)

    def _draw_dimensions(self, x: Tensor, stream: str) -> Drawn:
        return draw(self.equation, x, None, self.estimator, self._generator(stream))

    def _generator(self, name: str, *path: int) -> torch.Generator:
        """Return that of the next step: what a step draws is a function of the seed and of its number."""
        return Streams(self.streams.key(name)).generator(name, self.steps, *path)

    def _loss(self, x: Tensor, drawn: Drawn, of_conditions: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
        loss, metrics = drawn_loss(self.equation, self.derived, x, *drawn)
        reported = metrics["residual"]
        for condition, own in zip(self.conditions, of_conditions, strict=True):
            if not condition.hard:
                missed = condition.loss(self.derived, own)
                loss, reported = loss + missed, reported + missed.detach()
        return loss, reported
