"""What EchoVideo adds to a training step, and what checkpointing saves, on one CPU thread; seconds are of CPU time.

The fusion is measured in the network of the recipe ``identity`` at its default size, against the same network with the
fused tokens given; the conditions at random against the conditions as they are. Memory is of a small CogVideoX
transformer with its fusion, eight blocks of width 128 on 9 frames of 64 × 64: by how much the largest resident set of a
child process grows in a training step, with gradient checkpointing and without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aleator.experiment.peak_memory import resident_peak
from aleator.nn import Stage
from aleator.random import Streams
from aleator.recipes.identity.networks import ID_WIDTH, VISION_TOKENS, IdentityVideo, vision_width
from aleator.recipes.identity.sources import DigitSource
from aleator.video import IdentityTextFusion, IdentityVideoModel, TwoStageConditions, with_photo_channels
from benchmarks.pairs import Pairs, interleave

CLIPS, WIDTH, DEPTH = 64, 64, 3
in_turn = partial(interleave, clock=time.process_time)


def benchmark() -> list[dict[str, Any]]:
    """Return what the fusion and the random conditions add, and the memory with and without checkpointing."""
    fusion = in_turn(_step(fused=False), _step(fused=True), pairs=15, number=2)
    random = in_turn(_step(fused=False, random=True), _step(fused=False), pairs=15, number=2)
    memory = Pairs(*([_growth(checkpointing) for _ in range(5)] for checkpointing in (True, False)))
    return [
        fusion.row("what the fusion adds to a training step, 64 clips", "tokens given", "≤ 0.03", figure="overhead"),
        random.row("what conditions at random add to it", "conditions as they are", "–", figure="overhead"),
        memory.row(
            "memory of a step with gradient checkpointing, CogVideoX of width 128", "without", "≥ 1", unit="MiB"
        ),
    ]


def _step(*, fused: bool, random: bool = False) -> Callable[[], None]:
    source, streams = DigitSource(), Streams(0)
    with streams.scope("weights"):
        network = IdentityVideo(source, WIDTH, DEPTH)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    draw = partial(torch.randn, generator=streams.generator("inputs"))
    shape = (CLIPS, source.frames, source.channels, source.size, source.size)
    x, target, tokens = draw(shape), draw(shape), draw((CLIPS, source.tokens, WIDTH))
    given: dict[str, Tensor] = {
        "text": draw((CLIPS, source.tokens, source.words)),
        "vision": draw((CLIPS, VISION_TOKENS, vision_width(source))),
        "identity": draw((CLIPS, ID_WIDTH)),
        "shallow": draw(shape),
    }
    t = torch.randint(1000, (CLIPS,), generator=streams.generator("times"))
    conditions = TwoStageConditions(
        [Stage(1)], text=given["text"][0], vision=given["vision"][0], identity=ID_WIDTH,
        generator=streams.generator("conditions"),
    )  # fmt: skip

    def step() -> None:
        condition = conditions(given, 5).condition if random else given
        out = network.transformer(x, t, tokens, condition["shallow"]) if fused else network(x, t, condition)
        optimizer.zero_grad()
        nn.functional.mse_loss(out, target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _growth(checkpointing: bool) -> float:
    """Return by how many MiB a child process grows in a training step."""
    from diffusers import CogVideoXTransformer3DModel

    with Streams(0).scope("weights"):
        kind: Any = CogVideoXTransformer3DModel
        transformer = kind(
            num_attention_heads=4, attention_head_dim=32, in_channels=4, out_channels=4, time_embed_dim=32,
            text_embed_dim=32, num_layers=8, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=16,
            use_rotary_positional_embeddings=True,
        )  # fmt: skip
        fusion = IdentityTextFusion(32, 32, 32, 16, 16, num_latents=4, depth=2, heads=2, dim_head=16, width=32)
    model = IdentityVideoModel(fusion, with_photo_channels(transformer)).train()
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    draw = partial(torch.randn, generator=Streams(0).generator("inputs"))
    x = draw((32, 3, 4, 8, 8))
    sizes = {"text": (16, 32), "vision": (16, 32), "identity": (32,), "shallow": (3, 4, 8, 8)}
    given = {name: draw((32, *size)) for name, size in sizes.items()}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            before = resident_peak()
            model(x, torch.full((32,), 500), given).square().mean().backward()
            os.write(writing, str(resident_peak() - before).encode())
        finally:  # an error would go on as a second process
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        grown = float(said.read())
    os.waitpid(child, 0)
    return grown / 2**20
