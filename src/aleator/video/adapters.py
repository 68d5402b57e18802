"""Transformers of ``diffusers`` as velocities (x, s, condition) → v, so that one rollout and one loss fit them all.

A velocity is the flow's v = E[z − x₀ | x_s] at x_s = (1 − s) x₀ + s z with s = 1 for noise. What each class wants
instead of x and s, and gives instead of v:

    Wan, HunyuanVideo, SD3    timestep 1000 s
    Flux                      timestep s, tokens of 2 × 2 latents, their places
    CogVideoX                 a v-prediction: with a = √ᾱ, b = √(1 − ᾱ) and s = b/(a + b) its state is (a + b) x, its
                              timestep the one whose ᾱ has this s, and v = (b x_t + a out) − (a x_t − b out)

The last line is exact: the brackets are the noise and the data that the prediction implies. Between two steps of its
schedule a time is interpolated in s. The condition is a mapping of batched tensors by the names that the transformer's
``forward`` has for them, such as ``encoder_hidden_states``.

The network is called in its own arithmetic, or under the autocast that the adapter is given, in rollout and training
alike; the answer has the type of x. What a guidance-distilled model is told is part of the adapter for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.video.cogvideo_shapes import rope_crop_region
from aleator.video.extra import needed

Condition = Mapping[str, Tensor]


class TransformerVelocity(nn.Module):
    """A transformer of ``diffusers`` as a velocity; `velocity_of` finds the class that fits.

    Args:
        transformer: kept as the child of this name, so what is trained, sharded or saved is the transformer.
        guidance: what a guidance-distilled transformer is told, as its pipeline's ``guidance_scale``; None for others.
        autocast: the type of mixed precision, on every call alike; None for the transformer's own arithmetic.

    Raises:
        ValueError: if the transformer has dropout, whose masks would make the rollout and training two policies, or
            ``guidance`` does not fit it.
    """

    def __init__(
        self, transformer: nn.Module, *, guidance: float | None = None, autocast: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.guidance, self.autocast = guidance, autocast
        check_dropout(transformer)
        told = bool(getattr(self.transformer.config, "guidance_embeds", False))
        if told and guidance is None:
            raise ValueError(f"guidance must be a number for this {_name(transformer)}, got None")
        if guidance is not None and not told:
            raise ValueError(
                f"guidance must be None for this {_name(transformer)}, which is not told any, got {guidance}"
            )

    def forward(self, x: Tensor, s: Float[Tensor, " batch"], cond: Condition | None = None) -> Tensor:
        """Return the velocity at x_s.

        Args:
            x: latents in the shape that the transformer has them, of Flux as (batch, channel, height, width).
            s: in [0, 1].
            cond: tensors of as many rows as x, by the names of the transformer's arguments.
        """
        kind = x.device.type
        # The cache of autocast would keep the weights of a pass without gradient for one with it.
        with torch.autocast(kind, dtype=self.autocast, enabled=self.autocast is not None, cache_enabled=False):
            return self._velocity(x, s, dict(cond or {}))

    def _velocity(self, x: Tensor, s: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return self._called(x, (1000 * s).float(), cond)

    def _called(self, x: Tensor, timestep: Tensor, cond: dict[str, Any], **more: Any) -> Tensor:
        dtype = self.transformer.dtype
        given = {name: self._cast(value, dtype) for name, value in cond.items()}
        out = self.transformer(hidden_states=x.to(dtype), timestep=timestep, **given, **more, return_dict=False)
        return out[0].to(x.dtype)  # type: ignore[no-any-return]

    @staticmethod
    def _cast(value: Any, dtype: torch.dtype) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def _told(self, x: Tensor, times: float = 1.0) -> dict[str, Tensor]:
        if self.guidance is None:
            return {}
        return {"guidance": torch.full((len(x),), times * self.guidance, device=x.device)}


class TimestepVelocity(TransformerVelocity):
    """Wan and SD3: the timestep is 1000 s."""


class HunyuanVideoVelocity(TransformerVelocity):
    """HunyuanVideo: the timestep is 1000 s, and so is the guidance a thousandfold."""

    def _velocity(self, x: Tensor, s: Tensor, cond: dict[str, Tensor]) -> Tensor:
        return self._called(x, (1000 * s).float(), cond, **self._told(x, 1000.0))


class FluxVelocity(TransformerVelocity):
    """Flux: the timestep is s, latents are packed into tokens, and tokens have places."""

    def _velocity(self, x: Tensor, s: Tensor, cond: dict[str, Tensor]) -> Tensor:
        if x.dim() != 4 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(
                f"latents must be (batch, channel, height, width) with even height and width, got {tuple(x.shape)}"
            )
        rows, columns = x.shape[2] // 2, x.shape[3] // 2
        places = torch.zeros(rows, columns, 3, device=x.device)
        places[..., 1] = torch.arange(rows, device=x.device).unsqueeze(1)
        places[..., 2] = torch.arange(columns, device=x.device)
        text = torch.zeros(cond["encoder_hidden_states"].shape[1], 3, device=x.device)
        out = self._called(packed(x), s.float(), cond, img_ids=places.flatten(0, 1), txt_ids=text, **self._told(x))
        return unpacked(out, rows, columns)


class CogVideoXVelocity(TransformerVelocity):
    """CogVideoX: a v-prediction of a variance-preserving process, as a flow.

    Args:
        transformer: see `TransformerVelocity`. Latents are (batch, frame, channel, height, width).
        alphas_cumprod: ᾱ at the timesteps 0, 1, …, of the model's scheduler; decreasing.
        guidance: see `TransformerVelocity`.
        autocast: see `TransformerVelocity`.
    """

    def __init__(
        self,
        transformer: nn.Module,
        alphas_cumprod: Float[Tensor, " step"],
        *,
        guidance: float | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(transformer, guidance=guidance, autocast=autocast)
        kept, lost = alphas_cumprod.double().sqrt(), (1 - alphas_cumprod.double()).sqrt()
        self.register_buffer("times", lost / (kept + lost), persistent=False)
        self._rotary: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def timestep(self, s: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the step of the schedule whose time is s; between two of them it is interpolated."""
        times: Any = self.times
        above = torch.searchsorted(times, s.double()).clamp(1, len(times) - 1)
        low, high = times[above - 1], times[above]
        return (above - 1 + ((s.double() - low) / (high - low)).clamp(0, 1)).float()  # type: ignore[no-any-return]

    def _velocity(self, x: Tensor, s: Tensor, cond: dict[str, Tensor]) -> Tensor:
        # a + b = 1/√(s² + (1 − s)²), of which a has the share 1 − s and b the share s.
        time = s.view(-1, *(1,) * (x.dim() - 1)).to(x.dtype)
        scale = torch.rsqrt(time**2 + (1 - time) ** 2)
        a, b = scale * (1 - time), scale * time
        state = scale * x
        more = {"image_rotary_emb": self._places(x)} if self.transformer.config.use_rotary_positional_embeddings else {}
        out = self._called(state, self.timestep(s), cond, **more)
        return (b * state + a * out) - (a * state - b * out)

    def _places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the rotary embedding turns by, which the transformer has to be given, at places of latents."""
        frames, (height, width) = x.shape[1], x.shape[-2:]
        key = (frames, height, width, str(x.device))
        if key not in self._rotary:
            self._rotary[key] = rotary_places(self.transformer.config, frames, height, width, x.device)
        return self._rotary[key]


def rotary_places(config: Any, frames: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what the rotary embedding of a CogVideoX turns by at the places of latents.

    Args:
        config: of the transformer.
        frames: of the latents.
        height: of the latents.
        width: of the latents.
        device: of what is returned.

    Raises:
        ValueError: if frames do not fill the patches of a CogVideoX 1.5.
    """
    embeddings = needed("diffusers.models.embeddings", "the places of CogVideoX")
    patch, patch_t = config.patch_size, config.patch_size_t
    rows, columns = height // patch, width // patch
    base = config.sample_height // patch, config.sample_width // patch
    if patch_t is not None:  # CogVideoX 1.5
        if frames % patch_t:
            raise ValueError(f"latent frames must be a multiple of {patch_t} for this CogVideoX, got {frames}")
        grid: dict[str, Any] = {"crops_coords": None, "grid_type": "slice", "max_size": base}
        frames //= patch_t
    else:
        grid = {"crops_coords": rope_crop_region(16 * rows, 16 * columns, base_grid=base)}
    turned: tuple[Tensor, Tensor] = embeddings.get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim, grid_size=(rows, columns), temporal_size=frames, device=device, **grid
    )
    return turned


def packed(x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token channels"]:
    """Return latents as tokens of 2 × 2 places each, row after row, as Flux has them."""
    batch, channels, height, width = x.shape
    tokens = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(batch, height // 2 * (width // 2), 4 * channels)


def unpacked(
    tokens: Float[Tensor, "batch token channels"], rows: int, columns: int
) -> Float[Tensor, "batch channel height width"]:
    """Return the latents of `packed` tokens that lie in so many rows and columns."""
    batch, _, channels = tokens.shape
    latents = tokens.reshape(batch, rows, columns, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return latents.reshape(batch, channels // 4, 2 * rows, 2 * columns)


FLOWS: dict[str, Callable[..., TransformerVelocity]] = {
    "WanTransformer3DModel": TimestepVelocity,
    "SD3Transformer2DModel": TimestepVelocity,
    "HunyuanVideoTransformer3DModel": HunyuanVideoVelocity,
    "FluxTransformer2DModel": FluxVelocity,
}
COGVIDEOX = "CogVideoXTransformer3DModel"


def velocity_of(
    transformer: nn.Module,
    scheduler: Any = None,
    *,
    guidance: float | None = None,
    autocast: torch.dtype | None = None,
) -> TransformerVelocity:
    """Return a transformer of ``diffusers`` as a velocity.

    Args:
        transformer: Wan, HunyuanVideo, SD3, Flux or CogVideoX, also with LoRA or sharded by ``fully_shard``.
        scheduler: the pipeline's. CogVideoX needs it for its ᾱ; of the others it says, where it does, that they are
            flows.
        guidance: what a guidance-distilled model is told, in the units of its pipeline.
        autocast: the type of mixed precision, the same in rollout and training.

    Raises:
        ValueError: if it is not known what the model predicts, or something is missing for it.

    Example:
        >>> transformer = WanTransformer3DModel.from_pretrained(path, subfolder="transformer")
        >>> velocity = velocity_of(transformer, autocast=torch.bfloat16)
    """
    classes = {cls.__name__ for cls in type(transformer).__mro__}  # a sharded model's class is a subclass
    found = next((name for name in (*FLOWS, COGVIDEOX) if name in classes), None)
    if found is None:
        known = ", ".join((*FLOWS, COGVIDEOX))
        raise ValueError(
            f"model must be one whose prediction is known ({known}), got {_name(transformer)}; "
            "any other is given as a function (x, s, cond) -> v"
        )
    prediction = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    if found == COGVIDEOX:
        if scheduler is None:
            raise ValueError(f"scheduler must be the pipeline's for {COGVIDEOX}, whose timesteps it defines, got None")
        if prediction != "v_prediction":
            raise ValueError(f"prediction_type must be v_prediction for {COGVIDEOX}, got {prediction}")
        return CogVideoXVelocity(transformer, scheduler.alphas_cumprod, guidance=guidance, autocast=autocast)
    if prediction not in (None, "flow_prediction"):
        raise ValueError(f"prediction_type must be flow_prediction for {found}, got {prediction}")
    return FLOWS[found](transformer, guidance=guidance, autocast=autocast)


def check_dropout(model: nn.Module) -> None:
    """Check that a model has no dropout: a policy that changes from pass to pass has no likelihood ratio.

    Raises:
        ValueError: if it has, naming the module.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(f"dropout must be 0 in a policy, got {module.p:g} in {name or _name(model)}")


def _name(model: nn.Module) -> str:
    return type(model).__name__
