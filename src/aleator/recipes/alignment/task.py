"""The task behind the recipe ``alignment``: a flow before alignment, a reward, and the iterations until it is met.

Before the first iteration the flow, the classifier and the process reward are trained, the same in all methods of a
seed. An iteration rolls out groups, compares rewards and takes a few optimizer steps. Every so many iterations it looks
at the share of rewarded samples: 500 of them by the ODE in 32 steps, without guidance, always from the same noise. The
first iteration that meets the threshold is the headline, and the number of iterations where none does; such a run has
``reached`` 0.

The test samples anew, and twice more by the SDE of the rollouts: with guidance and without. How far rewarded samples
are from the nearest real one tells an aligned flow from one that has found the reward's blind spots, which their
distances from one another do not.

Noise belongs to samples, not to batches: keys ``rollout``, ``check``, ``validation`` and ``test``. Every process has
whole groups; evaluations are small, and every process does all of them. Streams ``init``, ``flow``, ``classifier``,
``process reward`` and ``wanted``; ``steps`` for the steps that are trained where not all are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state
from aleator.random import ItemGenerator, Streams
from aleator.recipes.alignment import exhibits
from aleator.recipes.alignment.material import material
from aleator.recipes.alignment.models import (
    PRM_WIDTH,
    TimedMLP,
    classifier_network,
    flow_network,
    train_classifier,
    train_flow,
)
from aleator.sde import FlowSDE, RewardGuidance, shifted_sigmas
from aleator.video import DualRewardGRPO, group_noise, outcome_rewards, rollout, train_process_reward

if TYPE_CHECKING:
    from aleator.recipes.alignment.options import Alignment

ODE_STEPS, CHECKED, AT_A_TIME, PAIRWISE = 32, 500, 500, 500
MAX_GRAD_NORM, WEIGHT_DECAY = 1.0, 1e-4
ODE = FlowSDE("none")


class AlignmentTask:
    """A flow in alignment; see `aleator.experiment.Task`."""

    headline = Headline("iterations", "min")

    def __init__(self, options: Alignment, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.streams, self.accelerator = options, streams, accelerator
        self.processes, self.rank = accelerator.num_processes, accelerator.process_index
        if options.groups % self.processes:
            raise ValueError(f"groups must be a multiple of the {self.processes} processes, got {options.groups}")
        self.own = options.groups * options.group_size // self.processes
        if self.own % options.updates:
            raise ValueError(f"updates must divide the {self.own} samples of a process, got {options.updates}")
        self.budget = Budget(options.iterations, "iterations")
        self.evaluate_every = max(1, options.iterations // 6)
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.material = material(options, streams)
        self.shape = tuple(self.material.seen.shape[1:])
        self.prm: nn.Module | None = None
        with streams.scope("init", "flow"):
            self.network = self._placed(flow_network(options, self.shape))
        with streams.scope("init", "classifier"):
            self.classifier = self._placed(classifier_network(self.shape))
        if options.method == "euphonium":
            with streams.scope("init", "process reward"):
                self.prm = self._placed(TimedMLP(self.shape, PRM_WIDTH, options.depth, scalar=True))
        self.reference = copy.deepcopy(self.network).requires_grad_(False)
        self.model: nn.Module = accelerator.prepare_model(self.network)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY)
        self.step = GradientStep(accelerator, self.model, self.optimizer, max_grad_norm=MAX_GRAD_NORM)
        self.objective, self.sde, self.guidance = _objective(options), _sde(options), _guidance(options)
        self.sigmas = shifted_sigmas(options.sampling_steps, options.shift, dtype=self.dtype)
        self.iteration, self.reached = 0, 0
        self.curve: list[tuple[int, float]] = []
        self.ready = False
        self._shown: Tensor | None = None

    # --- the run loop's names

    def begin(self) -> None:
        """Train what there is before alignment, unless a loaded state has it."""
        if self.ready:
            return
        options, streams, device = self.options, self.streams, self.accelerator.device
        seen, judged = (part.to(device, self.dtype) for part in (self.material.seen, self.material.judged))
        labels = self.material.labels.to(device)
        train_flow(self.network, seen, options.flow_steps, streams.generator("flow"))
        self.reference.load_state_dict(self.network.state_dict())
        train_classifier(self.classifier, judged, labels, options.classifier_steps, streams.generator("classifier"))
        if self.prm is not None:
            good = (labels == options.wanted).to(self.dtype)
            steps, generator = options.prm_steps or 1500, streams.generator("process reward")
            train_process_reward(self.prm, judged, good, generator=generator, steps=steps)
            self.prm.requires_grad_(False)
        self.classifier.requires_grad_(False)
        self.ready = True
        self.curve.append((0, self._rewarded(CHECKED, "check")))

    def train_batches(self) -> Iterator[int]:
        """Yield the numbers of iterations; what is learned from is made in the step."""
        self.begin()
        iteration = self.iteration
        while True:
            yield iteration
            iteration += 1

    def train_step(self, batch: int) -> StepResult:
        """Roll out groups, compare rewards, and take the optimizer steps of an iteration."""
        options = self.options
        own = self.own
        numbers = ItemGenerator(self._key("rollout", batch), range(self.rank * own, (self.rank + 1) * own))
        like = torch.empty(own, *self.shape, dtype=self.dtype, device=self.accelerator.device)
        noise = group_noise(like, options.group_size, same_noise=options.same_noise, generator=numbers)
        trajectory = rollout(
            self.model, noise, self.sigmas, self.sde, prm=self.prm, guidance=self.guidance, generator=numbers,
            judge_first=self.objective.prm_at != "next",
        )  # fmt: skip
        rewards = outcome_rewards(self._judge, trajectory.x0_pred)
        updates = self.objective.updates(
            self.model,
            trajectory,
            rewards if options.orm_coef else None,
            self.reference if options.kl_coef else None,
            count=options.updates,
            piece_size=own * options.sampling_steps,
            generator=self.streams.generator("steps") if options.timestep_fraction < 1 else None,
        )
        reports = []
        for index, update in enumerate(updates):
            reports.append(self.step(update.pieces))
            if index == 0:  # before the first update ratios are 1
                first = update.figures()["ratio"]
        self.iteration = batch + 1
        figures = {**updates[-1].figures(), **trajectory.figures, "first_ratio": first}
        del figures["ratio_std"]  # of a process; means over processes are logged
        figures |= {f"orm_{name}": value.mean() for name, value in rewards.items()}  # also where it has no weight
        figures["loss"] = torch.stack([report.loss for report in reports]).mean()
        norms = [report.gradient_norm for report in reports if report.gradient_norm is not None]
        if norms:
            figures["gradient_norm"] = torch.stack(norms).mean()
        return StepResult(
            figures,
            examples=options.groups * options.group_size,
            skipped=any(report.skipped for report in reports),
            stop=self._looked(),
        )

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the iterations until the threshold, the share of rewarded samples, and with the test what they are."""
        options = self.options
        metrics = {"iterations": float(self.reached or options.iterations), "reached": float(self.reached > 0)}
        if split == "validation":
            return {**metrics, "share": self._rewarded(CHECKED, "validation")}
        samples = self._samples(options.test_samples, "test")
        good = self._is_wanted(samples)
        self._shown = samples.cpu()
        metrics |= {"share": float(good.double().mean()), "examples": float(len(samples))}
        metrics["log_iterations"] = math.log(metrics["iterations"])  # differences of it are ratios
        metrics["share_unguided"] = self._rewarded(options.test_samples, "test sde", self.sde)
        if self.guidance is not None:
            metrics["share_guided"] = self._rewarded(options.test_samples, "test guided", self.sde, guided=True)
            metrics["guidance_gap"] = metrics["share_guided"] - metrics["share_unguided"]
        if int(good.sum()) > 1:
            metrics |= _distances(samples[good], self.material.real.to(samples))
        return metrics

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the share of rewarded samples over iterations, and samples before and after next to real ones."""
        if self._shown is None:
            return []
        before = self._samples(exhibits.SHOWN, "test", velocity=self.reference).cpu()
        shown = [exhibits.curve(self.curve, self.options.threshold)]
        draw = exhibits.clips if self.options.data == "moving-digits" else exhibits.images
        shown.append(draw(before, self._shown, self.material.real))
        if self.options.data == "moving-digits":
            shown += exhibits.single_clips(self._shown[: self.options.clips or 4])
        return shown

    def saved_models(self) -> dict[str, nn.Module]:
        """Return the flow before alignment and the rewards, which are saved beside the aligned flow."""
        models = {"before": self.reference, "classifier": self.classifier}
        return models if self.prm is None else {**models, "process-reward": self.prm}

    def state_dict(self) -> dict[str, Any]:
        """Return all networks, the optimizer, and where the iterations are."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "networks": {name: network.state_dict() for name, network in self.saved_models().items()},
            "iteration": self.iteration,
            "reached": self.reached,
            "curve": [list(point) for point in self.curve],
            "ready": self.ready,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        for name, network in self.saved_models().items():
            network.load_state_dict(state["networks"][name])
            network.requires_grad_(False)
        self.iteration, self.reached, self.ready = state["iteration"], state["reached"], state["ready"]
        self.curve = [(iteration, share) for iteration, share in state["curve"]]
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    # --- rewards and samples

    def _looked(self) -> str | None:
        """Look at the share of rewarded samples when it is time, and say why the run is to end, if it is."""
        options = self.options
        if self.iteration % options.check_every and self.iteration < options.iterations:
            return None
        share = self._rewarded(CHECKED, "check")
        self.curve.append((self.iteration, share))
        if self.reached or share < options.threshold:
            return None
        self.reached = self.iteration
        if not options.stop_at_threshold:
            return None
        return f"{share:.1%} of samples are rewarded after {self.iteration} iterations"

    def _judge(self, samples: Tensor, condition: Any) -> dict[str, Tensor]:
        """Return the outcome reward: 1 where the classifier sees the wanted digit, of clips times their smoothness."""
        good = self._is_wanted(samples).to(self.dtype)
        if self.options.data == "moving-digits":
            # Frames are in about [−1, 1]: 1 for a clip that stands still, 0 for one that turns about in every frame.
            good = good * (1 - samples.diff(dim=2).abs().flatten(1).mean(1).clamp(max=2) / 2)
        return {"reward": good}

    def _is_wanted(self, samples: Tensor) -> Tensor:
        with torch.no_grad():
            odds = self.classifier(samples.to(self.dtype)).softmax(1)
        return odds[:, self.options.wanted] > 0.5  # type: ignore[no-any-return]

    def _rewarded(self, count: int, name: str, sde: FlowSDE = ODE, *, guided: bool = False) -> float:
        """Return the share of samples in which the classifier sees the wanted digit."""
        return float(self._is_wanted(self._samples(count, name, sde, guided=guided)).double().mean())

    def _samples(
        self, count: int, name: str, sde: FlowSDE = ODE, *, guided: bool = False, velocity: nn.Module | None = None
    ) -> Tensor:
        sigmas = shifted_sigmas(ODE_STEPS, self.options.shift, dtype=self.dtype) if sde is ODE else self.sigmas
        more: dict[str, Any] = {"prm": self.prm, "guidance": self.guidance} if guided else {}
        found = []
        for items in torch.split(torch.arange(count), AT_A_TIME):
            numbers = ItemGenerator(self._key(name), items)
            like = torch.empty(len(items), *self.shape, dtype=self.dtype, device=self.accelerator.device)
            start = numbers.normal(like)
            trajectory = rollout(velocity or self.model, start, sigmas, sde, generator=numbers, **more)
            found.append(trajectory.x0_pred)
        return torch.cat(found)

    def _key(self, name: str, *path: int) -> int:
        return self.streams.key(name, *path)

    def _placed(self, network: nn.Module) -> nn.Module:
        return network.to(self.accelerator.device, self.dtype)


def _objective(options: Alignment) -> DualRewardGRPO:
    shared: dict[str, Any] = {
        "group_size": options.group_size,
        "clip": options.clip,
        "orm_coef": options.orm_coef,
        "kl_coef": options.kl_coef,
        "timestep_fraction": options.timestep_fraction,
    }
    if options.method == "dance-grpo":
        return DualRewardGRPO.dance_grpo(**shared)
    if options.method == "flow-grpo":
        return DualRewardGRPO.flow_grpo(**shared)
    return DualRewardGRPO(
        prm_coef=options.chosen_prm_coef,
        prm_at=options.prm_at or "next",
        distill_coef=options.chosen_distill_coef,
        **shared,
    )


def _sde(options: Alignment) -> FlowSDE:
    return FlowSDE("flow_grpo" if options.method == "flow-grpo" else "constant", options.chosen_eta)


def _guidance(options: Alignment) -> RewardGuidance | None:
    scale = options.chosen_guidance
    return RewardGuidance(scale=scale, start=options.guidance_start or 0) if scale else None


def _distances(samples: Tensor, real: Tensor) -> dict[str, float]:
    """Return mean distances of samples: to the nearest real one, and between two of them."""
    made, true = samples.flatten(1), real.flatten(1)
    nearest = torch.cdist(made, true).min(1).values.mean()
    return {"distance": float(nearest), "diversity": float(torch.pdist(made[:PAIRWISE]).mean())}
