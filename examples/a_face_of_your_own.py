"""Your own detector and encoder of faces, and training in two stages: what it takes to know somebody from a photograph.

No weights of faces come with the library. A detector and an encoder are two objects; here the "face" is a bright patch
of an image and its vector a few mean colours. In earnest they would call insightface, facenet or a model of yours, and
the transformer would be that of CogVideoX, see `aleator.video.IdentityVideoModel`:

    python examples/a_face_of_your_own.py

Generate the likeness of a real person with that person's consent only.
"""

import tempfile
from pathlib import Path

import imageio.v3 as imageio
import torch
from torch import Tensor, nn

from aleator.losses import v_prediction_loss
from aleator.nn import Stage
from aleator.video import (
    Face,
    IdentityTextFusion,
    TwoStageConditions,
    add_noise,
    alphas_cumprod,
    identity_similarity,
    read_references,
)

STEPS, WIDTH = 120, 16
torch.manual_seed(0)


class BrightPatch:
    """A detector: the brightest part of an image is its face; a dark image has none."""

    def __call__(self, image: Tensor) -> list[Face]:
        """Return the face with its five points: eyes, nose, corners of the mouth."""
        rows, columns = (image.float().mean(2) > 100).nonzero(as_tuple=True)
        if not len(rows):
            return []
        left, top, right, bottom = (float(value) for value in (columns.min(), rows.min(), columns.max(), rows.max()))
        at = torch.tensor([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)])
        points = torch.tensor([left, top]) + at * torch.tensor([right - left, bottom - top])
        return [Face((left, top, right, bottom), points)]


class MeanColours:
    """An encoder: mean colours of four quarters."""

    width = 12

    def __call__(self, faces: Tensor) -> Tensor:
        """Return a vector of each face."""
        quarters = nn.functional.adaptive_avg_pool2d(faces.permute(0, 3, 1, 2).float() / 255, 2)
        return quarters.flatten(1)


with tempfile.TemporaryDirectory() as folder:
    for name, colour in (("anna", (250, 120, 80)), ("empty", (5, 5, 5)), ("bela", (90, 130, 240))):
        image = torch.zeros(60, 60, 3, dtype=torch.uint8)
        image[15:45, 15:45] = torch.tensor(colour, dtype=torch.uint8)
        imageio.imwrite(Path(folder, f"{name}.png"), image.numpy())
    files = [Path(folder, f"{name}.png") for name in ("anna", "empty", "bela")]
    people = read_references(files, BrightPatch(), MeanColours(), id_dim=12)
print(f"{len(people.files)} faces, and {', '.join(Path(name).name for name in people.refused)} without one")


class Clips(nn.Module):
    """A network for clips of 2 frames of one pixel in three colours; it stands for a video transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = IdentityTextFusion(12, 4, WIDTH, 2, 3, num_latents=2, depth=1, heads=2, dim_head=8, width=WIDTH)
        self.out = nn.Sequential(nn.Linear(3 * WIDTH + 6 + 6 + 1, 64), nn.SiLU(), nn.Linear(64, 6))

    def forward(self, x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        """Return the velocity of noisy clips."""
        tokens = self.fusion(given["identity"], given["vision"], given["text"]).flatten(1)
        time = t.unsqueeze(1) / 1000
        return self.out(torch.cat([tokens, x.flatten(1), given["shallow"].flatten(1), time], 1)).view_as(x)  # type: ignore[no-any-return]


model, levels = Clips(), alphas_cumprod()
conditions = TwoStageConditions(
    [Stage(STEPS // 2, p=0.0), Stage(STEPS // 2, p=0.5)],
    text=torch.zeros(3, WIDTH), vision=torch.zeros(2, 4), identity=12, generator=torch.Generator().manual_seed(0),
)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
who = people.identity.repeat(32, 1)
colours = people.crops.float().mean((1, 2)).div(127.5).sub(1).repeat(32, 1)
x0 = torch.stack([colours, colours.flip(1)], 1)  # the second frame has the colours in reverse
condition = {"identity": who, "text": torch.zeros(64, 3, WIDTH), "vision": torch.zeros(64, 2, 4), "shallow": x0}
losses = []
for step in range(STEPS):
    given, _ = conditions(condition, step)
    noise, t = torch.randn_like(x0), torch.randint(1000, (64,))
    losses.append(v_prediction_loss(model(add_noise(x0, noise, t, levels), t, given), x0, noise, t, levels))
    optimizer.zero_grad()
    losses[-1].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
first, last = (float(torch.stack(part).detach().mean()) for part in (losses[:10], losses[-10:]))
alike = float(identity_similarity(people.identity[0], people.identity[1:]))
print(f"loss {first:.3f}, then {last:.3f}; {float(conditions.shallow.realised_rate):.2f} of the photographs were shown")
print(f"the two faces are alike by {alike:.2f}")
