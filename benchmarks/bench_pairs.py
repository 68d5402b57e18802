"""The cost of predicting pairs: a training step against a softmax head, a candidate of a text, an ensemble of five.

One CPU thread; seconds are of CPU time, which neighbours on the machine do not take. The network of the first rows is
the ``cnn`` of ``classify`` on images of 32 x 32 in colour, batch 128, whose last layer is replaced by a `PairHead`; a
step is forward, backward and AdamW, on both labels of every image for the softmax as well. Scoring a candidate reads
the prompt once and the candidate twice in one pass; the peer reads the prompt again for either likelihood. An ensemble
of five is trained and asked five times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.language import pair_lm_loss, read_prompts, self_cheat_scores
from aleator.losses import pair_nll
from aleator.nn import PairDistribution, PairHead
from aleator.random import Streams
from aleator.recipes.classify.models import image_model
from benchmarks.pairs import interleave

BATCH, FEATURES = 128, 128
PROMPT, ANSWER, CANDIDATES = 256, 16, 8
in_turn = partial(interleave, clock=time.process_time)


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for training steps, scoring of candidates and an ensemble."""
    rows = []
    for labels, kind in ((10, "table"), (30, "table"), (100, "table"), (100, "mixture")):
        step = in_turn(_pair_step(labels, kind), _softmax_step(labels, 1), pairs=31)
        what = f"training step of the cnn, batch {BATCH}, K = {labels}, {kind} head"
        rows.append(step.row(what, "softmax head, both labels", "≥ 0.91 (1.1 of its time)"))
    ensemble = in_turn(_pair_step(10, "table"), _softmax_step(10, 5), pairs=5)
    rows.append(ensemble.row(f"training step of the cnn, batch {BATCH}, K = 10", "ensemble of 5", "≥ 4"))
    asked = in_turn(_pair_answers(), _ensemble_answers(), pairs=7)
    rows.append(asked.row(f"p, V and C of {BATCH} images, K = 10", "ensemble of 5", "≥ 4"))
    scored = in_turn(_one_pass(), _two_passes(), pairs=7)
    what = f"scoring {CANDIDATES} candidates of {ANSWER} tokens to a prompt of {PROMPT}"
    rows.append(scored.row(what, "prompt read again for both likelihoods", "–"))
    return rows


def _body() -> nn.Module:
    with Streams(0).scope("init"):
        whole = cast("nn.Sequential", image_model("cnn", (3, 32, 32), 10))
    return whole[:-1]


def _images() -> Tensor:
    return torch.randn(BATCH, 3, 32, 32, generator=Streams(0).generator("images"))


def _labels(labels: int) -> tuple[Tensor, Tensor]:
    y1, y2 = (torch.randint(labels, (BATCH,), generator=Streams(0).generator("labels", i)) for i in range(2))
    return y1, y2


def _stepping(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        optimizer.step()

    return step


def _pair_model(labels: int, kind: Any) -> nn.Sequential:
    return nn.Sequential(_body(), PairHead(FEATURES, labels, kind, generator=Streams(0).generator("head")))


def _pair_step(labels: int, kind: str) -> Callable[[], None]:
    model, images, (y1, y2) = _pair_model(labels, kind), _images(), _labels(labels)
    return _stepping(model, lambda: pair_nll(model(images), y1, y2))


def _softmax_models(labels: int, members: int) -> nn.ModuleList:
    with Streams(0).scope("heads"):
        return nn.ModuleList(nn.Sequential(_body(), nn.Linear(FEATURES, labels)) for _ in range(members))


def _softmax_step(labels: int, members: int) -> Callable[[], None]:
    models, images, (y1, y2) = _softmax_models(labels, members), _images(), _labels(labels)

    def loss() -> Tensor:
        losses = [F.cross_entropy(scores, y) for scores in (model(images) for model in models) for y in (y1, y2)]
        return torch.stack(losses).sum()

    return _stepping(models, loss)


def _pair_answers() -> Callable[[], None]:
    model, images = _pair_model(10, "table"), _images()

    def answers() -> None:
        with torch.no_grad():
            pairs: PairDistribution = model(images)
            pairs.log_marginal()
            pairs.scores()

    return answers


def _ensemble_answers() -> Callable[[], None]:
    models, images = _softmax_models(10, 5), _images()

    def answers() -> None:
        with torch.no_grad():
            members = torch.stack([model(images).softmax(-1) for model in models], 1)
            pairs = PairDistribution.from_members(members)
            pairs.log_marginal()
            pairs.scores()

    return answers


def _language_model() -> tuple[nn.Module, Tensor, list[Tensor]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=1024, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with Streams(0).scope("init"):
        model = cast("nn.Module", LlamaForCausalLM(config)).eval()
    generator = Streams(0).generator("tokens")
    prompt = torch.randint(1, 1000, (PROMPT,), generator=generator)
    return model, prompt, list(torch.randint(1, 1000, (CANDIDATES, ANSWER), generator=generator))


def _one_pass() -> Callable[[], None]:
    model, prompt, candidates = _language_model()

    def score() -> None:
        self_cheat_scores(model, read_prompts(model, prompt.unsqueeze(0)), candidates, separator=0)

    return score


def _two_passes() -> Callable[[], None]:
    model, prompt, candidates = _language_model()
    nothing = [prompt[:0]] * CANDIDATES
    shown = [torch.cat([prompt, y, torch.tensor([0])]) for y in candidates]

    def score() -> None:
        with torch.no_grad():
            for prompts in ([prompt] * CANDIDATES, shown):
                pair_lm_loss(model, prompts, candidates, nothing, separator=0, reduction="none")

    return score
