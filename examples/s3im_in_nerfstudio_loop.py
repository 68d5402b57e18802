"""S3IM in a loop like nerfstudio's, whose models have ``get_outputs`` and ``get_loss_dict``: five lines, `WithS3IM`.

In nerfstudio the class would inherit from one of its models, such as ``NerfactoModel``, and nothing else would change.
Here a small grid stands in its place, and learns a room of closed formulas in a few seconds:

    python examples/s3im_in_nerfstudio_loop.py
"""

import torch
from torch import Tensor, nn

from aleator.fields import Rays, VoxelField, psnr, render, room_cameras, see_room
from aleator.losses import S3IM

STEPS, RAYS = 150, 1024
generator = torch.Generator().manual_seed(0)


class GridModel(nn.Module):
    """What nerfstudio calls a model: outputs of rays, and a dictionary of losses."""

    def __init__(self) -> None:
        super().__init__()
        self.field = VoxelField(32, (-1.1, -1.1, -1.1), (1.1, 1.1, 1.1))

    def get_outputs(self, rays: Rays) -> dict[str, Tensor]:
        """Return what rays see."""
        places = torch.rand(len(rays.origins), 48, generator=generator) if self.training else None
        return {"rgb": render(self.field, rays, near=0.0, far=2.5, samples=48, places=places).colour}

    def get_loss_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses, which the loop adds up."""
        return {"rgb_loss": nn.functional.mse_loss(outputs["rgb"], batch["image"])}


class WithS3IM(GridModel):
    """The model with S3IM: five lines."""

    def get_loss_dict(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of the model, and S3IM of the final colours of the batch."""
        loss_dict = super().get_loss_dict(outputs, batch)
        loss_dict["s3im_loss"] = 1.0 * s3im(outputs["rgb"], batch["image"])
        return loss_dict


s3im = S3IM(generator=torch.Generator().manual_seed(1))  # on a GPU: torch.Generator("cuda")

cameras = room_cameras(12, 40).to(torch.device("cpu"), torch.float32)
views = [cameras.image_rays(number) for number in range(len(cameras))]
rays = Rays(*(torch.cat(part) for part in zip(*views, strict=True)))
image = see_room(rays).colour
held_out = room_cameras(1, 40, held_out=True).to(torch.device("cpu"), torch.float32).image_rays(0)

model = WithS3IM()
optimizer = torch.optim.Adam(model.parameters(), lr=0.05, betas=(0.9, 0.99))
losses: dict[str, Tensor] = {}
for _ in range(STEPS):
    chosen = torch.randint(len(image), (RAYS,), generator=generator)
    outputs = model.get_outputs(Rays(rays.origins[chosen], rays.directions[chosen]))
    losses = model.get_loss_dict(outputs, {"image": image[chosen]})
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()

with torch.no_grad():
    rendered = model.eval().get_outputs(held_out)["rgb"].view(40, 40, 3)
truth = see_room(held_out).colour.view(40, 40, 3)
constant = image.mean(0).expand_as(truth)
said = ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items())
print(f"{STEPS} steps: {said}")
print(f"a view held out: {float(psnr(rendered, truth)):.2f} dB, the mean colour {float(psnr(constant, truth)):.2f} dB")
