"""The task behind the recipe ``identity``: a video transformer that has a photograph never, always or at random.

What its clips have of the photograph is measured. Measures of digits, on clips with values in [0, 1], both frames, by a
classifier that the model never saw:

- ``identity``, ``accuracy``: cosine of its features with those of the true clip, and its accuracy, where the photograph
  agrees with what is asked for;
- ``leak``: in conflict, where the photograph has a block and none is asked for: (generated − true)/(1 − true), sums
  over the block's pixels; 1 is a copy, 0 is right; ``log_leak`` is its logarithm, of 0.01 where it is less;
- ``brightness_error``: in conflict, how far the generated intensity, relative to the clean digit and off the block, is
  from the level asked for;
- ``mse``: in conflict, of all pixels; ``same_mse`` where the photograph agrees.

What a step draws is a function of the run's seed and the step, for the batch of all processes, each of which takes its
part: keys ``clips`` and ``noise``, and stream ``conditions``. Held-out clips and classifiers are those of every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state, unwrapped
from aleator.losses import v_prediction_loss
from aleator.nn import Stage
from aleator.random import Streams
from aleator.recipes.identity import exhibits
from aleator.recipes.identity.networks import (
    ID_WIDTH,
    VISION_TOKENS,
    IdentityVideo,
    trained_classifier,
    vision_tokens,
    vision_width,
)
from aleator.recipes.identity.sources import KINDS, Clips, DigitSource, Kind, source_of
from aleator.recipes.parts.gradient_task import check_shares
from aleator.video import (
    TwoStageConditions,
    add_noise,
    alphas_cumprod,
    guidance_schedule,
    identity_similarity,
    identity_variation,
    negative_condition,
    sample_clips,
)

if TYPE_CHECKING:
    from aleator.recipes.identity.options import Identity

_AT_A_TIME = 64  # clips, in sampling
_LEAST_LEAK = 0.01  # what is less, or negative, counts as this in a logarithm


class IdentityTask:
    """Clips of somebody from a photograph; see `aleator.experiment.Task`."""

    headline = Headline("mse", "min")

    def __init__(self, options: Identity, streams: Streams, accelerator: Accelerator) -> None:
        check_shares(options.batch_size, accelerator)
        self.options, self.accelerator = options, accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = max(1, options.steps // 3)
        self.source = source_of(options.data)
        self.encoder, self.judge = (trained_classifier(options.data, name) for name in ("encoder", "judge"))
        self.levels = alphas_cumprod()
        self.keys = {name: streams.key(name) for name in ("clips", "noise")}
        self.empty = torch.zeros(self.source.tokens, self.source.words)
        self.black = torch.zeros(VISION_TOKENS, vision_width(self.source))
        self.conditions = TwoStageConditions(
            _stages(options), text=self.empty, vision=self.black, identity=ID_WIDTH, drop=options.drop,
            generator=streams.generator("conditions"),
        ).to(accelerator.device, self.dtype)  # fmt: skip
        network = IdentityVideo(self.source, options.width, options.depth)
        self.model = accelerator.prepare_model(network.to(accelerator.device, self.dtype))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr, weight_decay=0.01, fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: (1 + math.cos(math.pi * step / options.steps)) / 2)
        self.gradient_step = GradientStep(
            accelerator, self.model, self.optimizer, schedule=self.schedule, max_grad_norm=1.0
        )
        self.step = 0
        self._shown: dict[Kind, tuple[Clips, Tensor]] = {}

    # --- the run loop's names

    def train_batches(self) -> Iterator[tuple[int, Clips]]:
        """Yield the clips of every step, those of all processes."""
        step = self.step
        while True:
            yield step, self.source.train(self.options.batch_size, Streams(self.keys["clips"]).generator("step", step))
            step += 1

    def train_step(self, batch: tuple[int, Clips]) -> StepResult:
        """Take one step."""
        step, clips = batch
        self.model.train()
        own = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        generator = Streams(self.keys["noise"]).generator("step", step)
        noise = self._placed(torch.randn(clips.clips.shape, generator=generator, dtype=self.dtype)[own])
        t = torch.randint(len(self.levels), (len(clips.clips),), generator=generator)[own].to(self.accelerator.device)
        x0 = self._placed(clips.clips[own]) * 2 - 1
        samples = torch.arange(len(clips.clips))[own]
        condition = {name: part[own] for name, part in self._condition(clips).items()}
        given, keep = self.conditions(condition, step, samples=samples)
        noisy = add_noise(x0, noise, t, self.levels)

        def loss() -> Tensor:
            return v_prediction_loss(self.model(noisy, t, given), x0, noise, t, self.levels)

        report = self.gradient_step([(len(x0), loss)])
        self.step = step + 1
        metrics = {"loss": report.loss, "keep_rate": keep.double().mean()}
        return StepResult(metrics, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Generate held-out clips with agreeing photographs and with others, and measure them."""
        count = self.options.test_clips if split == "test" else self.options.test_clips // 4
        found: dict[Kind, tuple[Clips, Tensor]] = {}
        for kind in KINDS:
            clips = self.source.held_out(split, kind, count)
            found[kind] = clips, self._generated(clips, split)
        if split == "test":
            self._shown = found
        same, conflict = found["same"], found["conflict"]
        measured = {
            "mse": _error(conflict[1], conflict[0].clips),
            "same_mse": _error(same[1], same[0].clips),
            **self._identity(*same),
        }
        if isinstance(self.source, DigitSource):
            measured |= _digits(self.source, split, *same, self.judge) | _copied(self.source, split, *conflict)
        return measured

    def exhibits(self) -> Sequence[Exhibit]:
        """Return generated clips next to photographs and true ones, as a sheet and to play."""
        return [each for kind, shown in self._shown.items() for each in exhibits.clips(kind, *shown)]

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule, the step, and the keys and counts of the conditions."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "conditions": dict(self.conditions.state_dict()),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
        self.conditions.load_state_dict(state["conditions"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]

    # --- inside

    def _condition(self, clips: Clips) -> dict[str, Tensor]:
        """Return what the model is told, as the arm has it."""
        text = self._placed(clips.text)
        if self.options.arm == "text":
            identity, vision = torch.zeros(len(text), ID_WIDTH), self.black.expand(len(text), -1, -1)
        else:
            identity, vision = self.encoder.features(clips.photo), vision_tokens(clips.photo)
        return {
            "text": text,
            "identity": self._placed(identity),
            "vision": self._placed(vision),
            "shallow": self._placed(clips.shallow),
        }

    @torch.no_grad()
    def _generated(self, clips: Clips, split: Split) -> Tensor:
        """Return clips in [0, 1] from the same noise in every run, on the CPU."""
        options = self.options
        condition = self._condition(clips)
        if (
            self.conditions.shallow.probability(max(0, self.step - 1)) == 0
        ):  # none in the last step: they mean nothing yet
            condition["shallow"] = torch.zeros_like(condition["shallow"])
        negative = negative_condition(condition, self._placed(self.empty), self._placed(self.black))
        noise = torch.randn(clips.clips.shape, generator=Streams(0).generator("identity", "noise", split))
        noise = self._placed(noise)
        scales = guidance_schedule(options.guidance, options.scale, options.sampling_steps)
        network = unwrapped(self.model).eval()
        pieces = []
        for at in range(0, len(noise), _AT_A_TIME):
            part = slice(at, at + _AT_A_TIME)
            told, untold = ({name: value[part] for name, value in each.items()} for each in (condition, negative))
            pieces.append(sample_clips(network, noise[part], told, untold, scales, self.levels))
        return ((torch.cat(pieces) + 1) / 2).clamp(0, 1).float().cpu()

    def _identity(self, clips: Clips, generated: Tensor) -> dict[str, float]:
        features = [self._features(self.source.seen(video, clips)) for video in (clips.clips, generated)]
        true, found = features[0].flatten(0, 1), features[1].flatten(0, 1).unsqueeze(1)
        return {
            "identity": float(identity_similarity(true, found).mean()),
            "variation": float(identity_variation(features[0][:, 0], features[1]).mean()),
        }

    def _features(self, seen: Tensor) -> Tensor:
        return self.judge.features(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])  # type: ignore[no-any-return]

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.accelerator.device, self.dtype)


def _stages(options: Identity) -> list[Stage]:
    if options.arm != "two-stage":
        return [Stage(options.steps, 1.0 if options.arm == "always-on" else 0.0)]
    share, p = (0.5 if value is None else value for value in (options.first_stage, options.p))
    first = round(share * options.steps)
    stages = ((first, 0.0), (options.steps - first, p))
    return [Stage(steps, probability) for steps, probability in stages if steps]


def _error(found: Tensor, true: Tensor) -> float:
    return float((found - true).double().square().mean())


def _digits(source: DigitSource, split: Split, clips: Clips, generated: Tensor, judge: Any) -> dict[str, float]:
    """Return how often the digit of a frame is the one that it should be, and the examples of that."""
    seen = source.seen(generated, clips)
    labels = source.glyphs(split, clips)[1].repeat_interleave(source.frames)
    right = judge(seen.flatten(0, 1)).argmax(1) == labels
    return {"accuracy": float(right.double().mean())}


def _copied(source: DigitSource, split: Split, clips: Clips, generated: Tensor) -> dict[str, float]:
    """Return what of the photograph's block and brightness is in clips that should have neither."""
    assert clips.motions is not None
    assert clips.of_photo is not None
    glyphs, _ = source.glyphs(split, clips)
    found, true = (source.seen(video, clips)[:, :, 0].double() for video in (generated, clips.clips))
    data = source.parts[split]
    block = data.block_pixels
    only_photo = clips.of_photo.block & ~clips.motions.block
    more, room = (found - true)[only_photo][:, :, block], (1 - true)[only_photo][:, :, block]
    asked = torch.tensor(data.brightnesses, dtype=torch.float64)[clips.motions.level].unsqueeze(1)
    clean = glyphs.double()[:, ~block].sum(1).clamp(min=1e-6).unsqueeze(1)
    intensity = found[:, :, ~block].sum(2) / clean
    leak = float(more.sum() / room.sum()) if only_photo.any() else math.nan
    return {
        "leak": leak,
        "log_leak": math.log(max(leak, _LEAST_LEAK)),  # in this order NaN stays
        "brightness_error": float((intensity - asked).abs().mean()),
    }
