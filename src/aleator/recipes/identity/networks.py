"""The networks of the recipe ``identity``: a small diffusion transformer with the fusion of EchoVideo, and classifiers.

The transformer has the form of CogVideoX in miniature: patches of noisy frames joined channel by channel with those of
the photograph, tokens of the text in the same attention, a modulation of every block by the time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.random import Streams
from aleator.recipes.identity.sources import Data, Source, source_of
from aleator.video import IdentityTextFusion

ID_WIDTH, VISION_TOKENS, NUM_LATENTS, ID_COPIES, HEADS = 32, 4, 4, 4, 4
_HIDDEN, _STEPS, _BATCH, _RATE = 96, 300, 128, 0.005


class Block(nn.Module):
    """Attention and a feed-forward layer; shift, scale and gate of both come from the time, with gates from 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return tokens [clip, token, width] after the block; time: [clip, width]."""
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.modulation(time).unsqueeze(1).chunk(6, -1)
        q, k, v = self.to_qkv(self.norms[0](x) * (1 + scale) + shift).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        x = x + gate * self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + gate_ff * self.feed_forward(self.norms[1](x) * (1 + scale_ff) + shift_ff)  # type: ignore[no-any-return]


class VideoTransformer(nn.Module):
    """Predicts the velocity of noisy clips from tokens of a text and the frames of a photograph."""

    def __init__(self, source: Source, width: int, depth: int) -> None:
        super().__init__()
        self.patch, self.channels = source.patch, source.channels
        patches = source.frames * (source.size // source.patch) ** 2
        self.patch_embed = nn.Linear(2 * source.channels * source.patch**2, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, source.tokens + patches, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, source.channels * source.patch**2)
        nn.init.zeros_(self.to_patch.weight)
        nn.init.zeros_(self.to_patch.bias)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor, shallow: Tensor) -> Tensor:
        """Return velocities of the shape of x, [clip, frame, channel, height, width]; t: timesteps [clip]."""
        frames, side = x.shape[1], x.shape[-1] // self.patch
        given = torch.cat([x, shallow], 2).flatten(0, 1)
        patches = F.unfold(given, self.patch, stride=self.patch).transpose(1, 2).unflatten(0, (len(x), frames))  # type: ignore[no-untyped-call]
        joint = torch.cat([tokens, self.patch_embed(patches.flatten(1, 2))], 1) + self.places
        time = self.time(_waves(t, joint.shape[-1]).to(joint.dtype))
        for block in self.blocks:
            joint = block(joint, time)
        out = self.to_patch(self.norm(joint[:, tokens.shape[1] :])).unflatten(1, (frames, -1)).flatten(0, 1)
        folded = F.fold(out.transpose(1, 2), (side * self.patch,) * 2, self.patch, stride=self.patch)
        return folded.unflatten(0, (len(x), frames))  # type: ignore[no-any-return, no-untyped-call]


class IdentityVideo(nn.Module):
    """The fusion and the transformer: noisy clips, timesteps and conditions → velocities."""

    def __init__(self, source: Source, width: int, depth: int) -> None:
        super().__init__()
        self.words = nn.Linear(source.words, width)
        self.fusion = IdentityTextFusion(
            ID_WIDTH, vision_width(source), width, VISION_TOKENS, source.tokens, NUM_LATENTS, depth=2, heads=HEADS,
            dim_head=width // HEADS, id_copies=ID_COPIES, width=width, ff_mult=2,
        )  # fmt: skip
        self.transformer = VideoTransformer(source, width, depth)

    def forward(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """Return velocities; the condition has text, vision, identity and shallow."""
        tokens = self.fusion(condition["identity"], condition["vision"], self.words(condition["text"]))
        return self.transformer(x, t, tokens, condition["shallow"])  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Says who is in a picture; what it says it from are the features of an identity."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(source.channels * source.side**2, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, ID_WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(ID_WIDTH, source.people)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.features(pictures))  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=4)
def trained_classifier(data: Data, name: str) -> Classifier:
    """Return a frozen classifier of the people of a source; a name has the same one in every run."""
    source, streams = source_of(data), Streams(0)
    with streams.scope("identity", name):
        model = Classifier(source)
    optimizer = torch.optim.Adam(model.parameters(), lr=_RATE, fused=True)
    generator = streams.generator("identity", name, "portraits")
    with torch.enable_grad():
        for _ in range(_STEPS):
            pictures, who = source.portraits(_BATCH, generator)
            optimizer.zero_grad()
            F.cross_entropy(model(pictures), who).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.requires_grad_(False).eval()


def vision_width(source: Source) -> int:
    """Width of a vision token: the pixels of a quarter of a photograph."""
    return source.channels * (source.side // 2) ** 2


def vision_tokens(photo: Tensor) -> Tensor:
    """Return the quarters of photographs, each photograph with mean 0 and deviation 1; black ones stay 0."""
    flat = photo.flatten(1)
    normal = (photo - flat.mean(1).view(-1, 1, 1, 1)) / (flat.std(1).view(-1, 1, 1, 1) + 1e-4)
    return F.unfold(normal, photo.shape[-1] // 2, stride=photo.shape[-1] // 2).transpose(1, 2)


def _waves(t: Tensor, width: int) -> Tensor:
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t.device, dtype=torch.float64) / (width // 2))
    angles = t.double().unsqueeze(1) * rates
    return torch.cat([angles.cos(), angles.sin()], 1)
