"""Volume rendering: the colour and the distance that a ray through a field of density and colour sees.

A ray is cut into S pieces between its beginning and its end, where it leaves the field's box or at ``far``, whichever
comes first. With the density σᵢ and the colour cᵢ of a sample in each piece of length δᵢ,

    wᵢ = Tᵢ (1 − e^{−σᵢ δᵢ}),   Tᵢ = e^{−Σ_{j<i} σⱼ δⱼ},   C = Σᵢ wᵢ cᵢ + (1 − Σᵢ wᵢ) c_background,

so that a ray ends there, and what of it is left sees the background; the last piece is not infinitely long. The
distance is Σᵢ wᵢ tᵢ + (1 − Σᵢ wᵢ) t_end.

N. Max, IEEE TVCG 1 (1995); B. Mildenhall et al., NeRF, ECCV 2020.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from aleator.fields.cameras import Rays

Spacing = Literal["equal", "inverse"]


@runtime_checkable
class RadianceField(Protocol):
    """What can be rendered: density and colour along rays, between the corners of a box, which may be infinite."""

    low: Tensor
    high: Tensor

    def __call__(self, origins: Tensor, directions: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Return densities [rays, samples] and colours [channel, rays, samples] at these distances along the rays."""
        ...


class Rendered(NamedTuple):
    """What rays see.

    Attributes:
        colour: of each ray, background included.
        distance: how far it sees, along the ray; the ray's end where it meets nothing.
        opacity: Σ w, 1 where nothing of the background is seen.
    """

    colour: Float[Tensor, "rays channel"]
    distance: Float[Tensor, " rays"]
    opacity: Float[Tensor, " rays"]


def render(
    field: RadianceField,
    rays: Rays,
    near: float,
    far: float,
    samples: int = 64,
    *,
    background: float = 1.0,
    spacing: Spacing = "equal",
    places: Float[Tensor, "rays samples"] | None = None,
) -> Rendered:
    """Render rays through a field.

    Args:
        field: for instance a `VoxelField`.
        rays: what to render.
        near: distance at which a ray begins, or later, where it enters the box.
        far: distance at which it ends, or earlier, where it leaves the box.
        samples: S, pieces of a ray.
        background: brightness of what is behind, in all channels; 1 is white.
        spacing: ``"equal"`` pieces; or ``"inverse"``, pieces over which 1 / t falls by equal amounts, for scenes
            without walls, whose far parts are seen coarsely. It needs ``near`` above 0.
        places: where in its piece each sample is, from 0 to 1: in training at random, from a generator of the
            caller's; None takes the middle.

    Raises:
        ValueError: if a number is out of range or, on a CPU, a ray is not finite.
    """
    if not 0 <= near < far < float("inf"):
        raise ValueError(f"near and far must be 0 <= near < far, got {near} and {far}")
    if spacing not in ("equal", "inverse"):
        raise ValueError(f"spacing must be equal or inverse, got {spacing!r}")
    if spacing == "inverse" and near == 0:
        raise ValueError("near must be positive with spacing inverse, got 0")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if places is not None and places.shape != (len(rays.origins), samples):
        raise ValueError(f"places must have shape [{len(rays.origins)}, {samples}], got {list(places.shape)}")
    check_rays(rays)
    begin, end = box_range(rays, field.low, field.high, near, far)
    first, last = begin.unsqueeze(1), end.unsqueeze(1)
    number = torch.arange(samples + 1, device=begin.device, dtype=begin.dtype)
    if spacing == "equal":
        piece = (last - first) / samples
        distances = torch.addcmul(first, number[:-1] + (0.5 if places is None else places), piece)
    else:
        edges = 1 / torch.lerp(1 / first, 1 / last, number / samples)
        piece = edges.diff(dim=1)
        distances = torch.addcmul(edges[:, :-1], piece, torch.full_like(piece, 0.5) if places is None else places)
    density, colour = field(rays.origins, rays.directions, distances)
    weights = ray_weights(density, piece)
    opacity = weights.sum(1)
    seen = (weights * colour).sum(2).t()
    return Rendered(
        seen + background * (1 - opacity).unsqueeze(1),
        (weights * distances).sum(1) + (1 - opacity) * end,
        opacity,
    )


def check_rays(rays: Rays) -> None:
    """Check that rays are finite, on a CPU; elsewhere the host would have to wait.

    Raises:
        ValueError: naming how many are not, and the first.
    """
    if rays.origins.device.type != "cpu":
        return
    finite = rays.origins.isfinite().all(1) & rays.directions.isfinite().all(1)
    if not finite.all():
        bad = (~finite).nonzero()
        raise ValueError(
            f"rays must be finite, got {len(bad)} of {len(finite)} that are not, the first is {int(bad[0])}"
        )


def box_range(
    rays: Rays, low: Float[Tensor, " 3"], high: Float[Tensor, " 3"], near: float, far: float
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Return where each ray is first and last inside a box, between near and far; both are far where it never is."""
    # A component of 0, here never −0, gives infinities of the right sign, or, exactly on a face, NaN.
    directions = rays.directions + 0.0
    first = ((low - rays.origins) / directions).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    last = ((high - rays.origins) / directions).nan_to_num(torch.inf, torch.inf, -torch.inf)
    near_side, far_side = torch.minimum(first, last), torch.maximum(first, last)
    begin = torch.full_like(rays.origins[:, 0], near)
    end = torch.full_like(begin, far)
    for axis in range(3):
        begin = torch.maximum(begin, near_side[:, axis])
        end = torch.minimum(end, far_side[:, axis])
    misses = end <= begin
    return begin.masked_fill(misses, far), end.masked_fill(misses, far)


def ray_weights(
    density: Float[Tensor, "rays samples"], piece: Float[Tensor, "rays pieces"]
) -> Float[Tensor, "rays samples"]:
    """Return the weights wᵢ of the samples of rays, with a derivative in the densities, written by hand.

    Args:
        density: σ, not negative.
        piece: δ, the lengths of a ray's pieces, or the one length of all.
    """
    return cast("Tensor", _RayWeights.apply(density, piece))  # type: ignore[no-untyped-call]


class _RayWeights(torch.autograd.Function):
    """With qᵢ = ∂L/∂wᵢ:  ∂L/∂(σⱼ δⱼ) = Tⱼ₊₁ qⱼ − Σ_{i>j} wᵢ qᵢ."""

    @staticmethod
    def forward(ctx: Any, density: Tensor, piece: Tensor) -> Tensor:
        thickness = density * piece
        behind = torch.cumsum(thickness, 1)
        transmitted = torch.exp(thickness - behind)
        weights = transmitted * -torch.expm1(-thickness)
        ctx.save_for_backward(weights, transmitted - weights, piece)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights, after, piece = ctx.saved_tensors
        weighted = weights * gradients[0]
        later = weighted.sum(1, keepdim=True) - weighted.cumsum(1)
        return (after * gradients[0] - later) * piece, None
