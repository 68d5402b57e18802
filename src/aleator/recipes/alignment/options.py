"""A flow that rarely makes what is wanted is aligned with a reward for it, by Euphonium and by its peers.

This file holds the options, `aleator.recipes.alignment.material` the data, `aleator.recipes.alignment.models` the
networks and how they come about before alignment, `aleator.recipes.alignment.task` the task. Settings are from the
project's notes on the paper, which tried them on digits with another program; none was changed after a run of this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Precision, Task
from aleator.later import named
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

Data = Literal["digits", "mnist", "moving-digits"]
Method = Literal["euphonium", "dance-grpo", "flow-grpo"]
_OF_PROCESS_REWARDS = ("prm_coef", "prm_at", "prm_steps", "guidance", "guidance_start", "distill_coef")


@dataclass(frozen=True)
class Alignment:
    """Align a flow with a reward by Euphonium, DanceGRPO or Flow-GRPO, and count the iterations that it takes."""

    # --- data
    data: Data = "digits"
    """Images of digits, or clips of digits that move."""
    wanted: int = 3
    """The digit that is rewarded."""
    wanted_size: int = 8
    """Images of it, of clips glyphs, that the flow learns from before alignment; of the others it sees all."""

    # --- before alignment
    model: Literal["mlp", "wan"] = "mlp"
    """The flow's network. Wan, the transformer of diffusers in small, is for clips and needs the extra video."""
    width: int | None = None
    """Of its layers. Default: 256 for digits, else 512; of wan 128, a multiple of 32."""
    depth: int = 3
    """Layers, of wan blocks."""
    flow_steps: int = 5000
    """Steps of flow matching."""
    classifier_steps: int = 1500
    """Steps of the classifier that is the reward, frozen from then on."""
    prm_steps: int | None = None
    """Steps of the process reward. Default: 1500."""

    # --- alignment
    method: Method = "euphonium"
    """Outcome and process rewards, guidance and distillation; or the outcome reward alone, with constant noise
    (DanceGRPO) or with noise that falls (Flow-GRPO)."""
    iterations: int = 60
    """Iterations at most; a run that has not reached the threshold by then counts as this many."""
    threshold: float = 0.8
    """Share of rewarded samples that is to be reached, by the ODE without guidance."""
    stop_at_threshold: bool = True
    """End the run there, where methods are to be compared: beyond it they over-optimise."""
    check_every: int = 2
    """Iterations between two looks at that share, in 500 samples."""
    groups: int = 16
    """Groups of an iteration, over all processes."""
    group_size: int = 8
    """Samples of a group, which rewards are compared within."""
    same_noise: bool = True
    """The samples of a group begin with the same noise."""
    sampling_steps: int = 16
    """Steps of a rollout; the last is not trained."""
    shift: float = 1.0
    """Of the grid of times; above 1 more of its steps are near the noise."""
    eta: float | None = None
    """Noise level of the steps. Default: 0.5, of flow-grpo 0.7."""
    orm_coef: float = 1.0
    """Weight of the outcome reward."""
    prm_coef: float | None = None
    """Weight of the process reward. Default: 1."""
    prm_at: Literal["next", "current", "delta"] | None = None
    """Credit a step with the process reward of the state it leads to, of the one it begins in as the authors' program
    does, or with the difference. Default: next."""
    guidance: float | None = None
    """How far steps follow the gradient of the process reward, λ; 0 not at all. Default: 0.1."""
    guidance_start: int | None = None
    """The first step that does. Default: 0."""
    distill_coef: float | None = None
    """Weight of the distillation of the guidance. Default: 1.28, without guidance 0."""
    kl_coef: float = 0.0
    """Weight of the divergence from the flow before alignment."""
    clip: float = 1e-4
    """Half the width of the ratio's clipping."""
    timestep_fraction: float = 1.0
    """Of the steps that are trained, for each sample."""
    updates: int = 2
    """Optimizer steps of an iteration, each on samples of its own."""
    lr: float = 1e-4
    """Learning rate of AdamW."""
    precision: Precision = "float32"
    """Arithmetic; bfloat16 and float16 are mixed precision."""

    # --- what is looked at
    test_samples: int = 2000
    """Samples of the test, for each way of sampling."""
    clips: int | None = None
    """Clips of the aligned flow that are written into the run's folder, of data moving-digits. Default: 4."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("wanted_size", "width", "depth", "flow_steps", "classifier_steps", "prm_steps", "iterations",
                     "check_every", "groups", "sampling_steps", "updates", "test_samples", "clips"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {self.group_size}")
        if self.sampling_steps < 2:
            raise ValueError("sampling_steps must be at least 2, the last of which is not trained, got 1")
        if not 0 <= self.wanted <= 9:
            raise ValueError(f"wanted must be a digit from 0 to 9, got {self.wanted}")
        for name in ("threshold", "timestep_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        positive(self, "shift", "eta", "clip", "lr")
        not_negative(self, "orm_coef", "prm_coef", "guidance", "distill_coef", "kl_coef")
        if self.groups * self.group_size % self.updates:
            raise ValueError(
                f"updates must divide the {self.groups * self.group_size} samples of an iteration, got {self.updates}"
            )
        self._check_effects()

    def _check_effects(self) -> None:
        """Refuse options that would do nothing."""
        moving = self.data == "moving-digits"
        if self.model == "wan" and not moving:
            raise ValueError(f"model must be mlp with data {self.data}, got wan")
        if self.model == "wan" and self.chosen_width % 32:
            raise ValueError(f"width must be a multiple of 32 with model wan, got {self.chosen_width}")
        refuse_unless(moving, f"data {self.data}", self, "clips")
        refuse_unless(self.method == "euphonium", f"method {self.method}", self, *_OF_PROCESS_REWARDS)
        if self.method != "euphonium":
            positive(self, "orm_coef")
            return
        if self.orm_coef == self.chosen_prm_coef == 0:
            raise ValueError("orm_coef and prm_coef must not both be 0, got 0 and 0")
        if self.chosen_prm_coef == self.chosen_guidance == 0:
            raise ValueError("prm_coef and guidance must not both be 0, which is method dance-grpo, got 0 and 0")
        refuse_unless(self.chosen_prm_coef > 0, "prm_coef 0", self, "prm_at")
        refuse_unless(self.chosen_guidance > 0, "guidance 0", self, "guidance_start", "distill_coef")
        if self.guidance_start is not None and not 0 <= self.guidance_start < self.sampling_steps:
            raise ValueError(
                f"guidance_start must be from 0 to {self.sampling_steps - 1}, a step of the rollout, "
                f"got {self.guidance_start}"
            )

    @property
    def chosen_width(self) -> int:
        """The width, or its default."""
        if self.width is not None:
            return self.width
        return 128 if self.model == "wan" else 256 if self.data == "digits" else 512

    @property
    def chosen_prm_coef(self) -> float:
        """The weight of the process reward, or its default; 0 for methods that have none."""
        if self.method != "euphonium":
            return 0.0
        return 1.0 if self.prm_coef is None else self.prm_coef

    @property
    def chosen_guidance(self) -> float:
        """λ, or its default; 0 for methods that have none."""
        if self.method != "euphonium":
            return 0.0
        return 0.1 if self.guidance is None else self.guidance

    @property
    def chosen_distill_coef(self) -> float:
        """The weight of the distillation, or its default; 0 where there is nothing to distil."""
        if not self.chosen_guidance:
            return 0.0
        return 1.28 if self.distill_coef is None else self.distill_coef

    @property
    def chosen_eta(self) -> float:
        """The noise level, or its default."""
        return (0.7 if self.method == "flow-grpo" else 0.5) if self.eta is None else self.eta

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        build = named("aleator.recipes.alignment.task:AlignmentTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
