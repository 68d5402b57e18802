"""Pairs of responses in one text: training of a causal language model, and what it betrays when it is shown its answer.

    prompt ‖ y₁ ‖ sep ‖ y₂ ‖ sep

The separator ends either response; the loss is on both and on neither the prompt nor padding. A response y is scored
twice in one pass, as the first and, after the model has seen it, as the second:

    log p₁(y) = log p(y sep | prompt),   log p₂(y | y) = log p(y sep | prompt y sep)

from which variance and confidence follow (`aleator.stats.cheat_scores`). The keys and values of the prompt are computed
once; a candidate costs one forward pass over 2|y| + 1 new tokens. Models come from Hugging Face: called with
``input_ids``, ``attention_mask``, ``past_key_values``, they return ``logits`` and ``past_key_values``.

D. D. Johnson, D. Tarlow, D. Duvenaud, C. J. Maddison, "Experts Don't Cheat", ICML 2024, arXiv 2402.08733, section 5.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.stats import ABSTAIN, Abstention, cheat_scores, selective_decode

Tokens = Int[Tensor, " _length"]  # of any length each, also within one call
Texts = Sequence[Tokens] | Int[Tensor, "*_rows _length"]  # several, of one length if they are a tensor; or one

IGNORED = -100  # the label that Hugging Face models leave out of their loss


class SelfCheat(NamedTuple):
    """Scores of responses, in float64.

    Attributes:
        logp1: log p₁(y), the separator included.
        logp2: log p₂(y | y), the separator included.
        variance: raw V.
        confidence: raw C.
    """

    logp1: Float[Tensor, " responses"]
    logp2: Float[Tensor, " responses"]
    variance: Float[Tensor, " responses"]
    confidence: Float[Tensor, " responses"]


@dataclass(frozen=True)
class ReadPrompts:
    """Prompts that a model has read.

    Attributes:
        cache: the model's keys and values. It is copied where it is used.
        logits: scores of the token after each prompt.
        length: tokens of every prompt.
    """

    cache: Any
    logits: Float[Tensor, "prompts vocabulary"]
    length: int


@dataclass(frozen=True)
class PairAnswer:
    """An answer, or none.

    Attributes:
        response: its tokens without the separator, or `aleator.stats.ABSTAIN`.
        confidence: C of the answer, at most 1; None without one.
        bound: so large a share of the answers that are given in this way is impossible at most, if the model is
            calibrated.
    """

    response: Tensor | Abstention
    confidence: float | None
    bound: float


def pair_batch(prompts: Texts, y1: Texts, y2: Texts, *, separator: int) -> dict[str, Int[Tensor, "batch length"]]:
    """Return ``input_ids``, ``attention_mask`` and ``labels`` of pairs, for ``model(**batch).loss`` or a data collator.

    Sequences are padded on the right. With these labels the loss of a Hugging Face model is a mean over tokens;
    `pair_lm_loss` is one over pairs.

    Args:
        prompts: token ids of each prompt, at least one.
        y1: of each first response, which may be empty.
        y2: of each second response.
        separator: the id that ends a response and is in none.

    Raises:
        ValueError: if there are not as many of each, a prompt is empty, or a response holds the separator.
    """
    prompts, y1, y2 = _rows(prompts), _rows(y1), _rows(y2)
    if not len(prompts) == len(y1) == len(y2) or not prompts:
        raise ValueError(
            f"prompts, y1 and y2 must be equally many, at least one, got {len(prompts)}, {len(y1)} and {len(y2)}"
        )
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("prompts must have at least one token each, got an empty one")
    _check_responses("y1", y1, separator)
    _check_responses("y2", y2, separator)
    end = prompts[0].new_tensor([separator])
    rows = [torch.cat([x, a, end, b, end]) for x, a, b in zip(prompts, y1, y2, strict=True)]
    ids = _padded(rows, separator)
    mask = _padded([torch.ones_like(row) for row in rows], 0)
    starts = torch.tensor([len(x) for x in prompts], device=ids.device)
    inside = (torch.arange(ids.shape[1], device=ids.device) >= starts.unsqueeze(1)) & (mask == 1)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(inside, ids, IGNORED)}


def pair_lm_loss(
    model: nn.Module,
    prompts: Texts,
    y1: Texts,
    y2: Texts,
    *,
    separator: int | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Float[Tensor, "*pairs"]:
    """Return −log p(y₁, y₂ | prompt) of pairs of responses, in nats.

    Token log-probabilities are computed in float32 at least and added up in float64.

    Args:
        model: a causal language model.
        prompts: token ids of each prompt.
        y1: of each first response.
        y2: of each second response.
        separator: the id that ends a response and is in none; by default ``eos_token_id`` of the model's config.
        reduction: ``"mean"`` over the pairs, or ``"none"``.

    Raises:
        ValueError: see `pair_batch`; or if ``reduction`` is none of the two.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be mean or none, got {reduction!r}")
    batch = pair_batch(prompts, y1, y2, separator=_separator(model, separator))
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    losses = -_token_log_probs(logits[:, :-1], batch["labels"][:, 1:]).sum(1)
    return losses.mean() if reduction == "mean" else losses


@torch.no_grad()
def read_prompts(model: nn.Module, prompts: Int[Tensor, "prompts length"]) -> ReadPrompts:
    """Return what a model has made of prompts of one length, to sample and to score from.

    Raises:
        ValueError: if the model is in training mode, or the prompts are empty.
    """
    _check_evaluating(model)
    if prompts.ndim != 2 or prompts.shape[1] == 0:
        raise ValueError(f"prompts must be of one length, [prompts, length], got shape {tuple(prompts.shape)}")
    read = model(input_ids=prompts, use_cache=True)
    return ReadPrompts(read.past_key_values, read.logits[:, -1], prompts.shape[1])


@torch.no_grad()
def self_cheat_scores(
    model: nn.Module,
    prompt: Int[Tensor, "*prompts length"] | ReadPrompts,
    y: Texts,
    *,
    separator: int | None = None,
) -> SelfCheat:
    """Return log p₁(y), log p₂(y | y), V and C of responses, each of which the model reads twice in one pass.

    Args:
        model: a causal language model in evaluation mode, as it was trained: without temperature.
        prompt: one prompt for all responses, of shape [length] or [1, length]; or as many of one length as responses.
            What `read_prompts` returned saves reading it again.
        y: token ids of each response, without the separator; or of one.
        separator: the id that ends a response and is in none; by default ``eos_token_id`` of the model's config.

    Raises:
        ValueError: if the model is in training mode, there is no response, one holds the separator, or there are
            neither one nor as many prompts.
    """
    _check_evaluating(model)
    separator, y = _separator(model, separator), _rows(y)
    if not y:
        raise ValueError("y must hold at least one response, got none")
    _check_responses("y", y, separator)
    if isinstance(prompt, Tensor):
        prompt = read_prompts(model, prompt.unsqueeze(0) if prompt.ndim == 1 else prompt)
    if len(prompt.logits) not in (1, len(y)):
        raise ValueError(f"prompt must be one, or one for each of {len(y)} responses, got {len(prompt.logits)}")
    end = prompt.logits.new_tensor([separator], dtype=torch.int64)
    responses = [row.to(end) for row in y]
    fed = _padded([torch.cat([row, end, row]) for row in responses], separator)
    targets = _padded([torch.cat([row, end, row, end]) for row in responses], IGNORED)
    sizes = torch.tensor([len(row) for row in responses], device=fed.device).unsqueeze(1)
    place = torch.arange(fed.shape[1], device=fed.device)
    mask = torch.cat([fed.new_ones(len(y), prompt.length), (place <= 2 * sizes).to(fed)], 1)
    cache = _copied(prompt.cache, len(y) // len(prompt.logits))
    read = model(input_ids=fed, attention_mask=mask, past_key_values=cache, use_cache=True)
    first = prompt.logits.expand(len(y), -1).unsqueeze(1)
    tokens = _token_log_probs(torch.cat([first, read.logits], 1), targets)
    of_first = torch.arange(tokens.shape[1], device=fed.device) <= sizes
    logp1, logp2 = (tokens * of_first).sum(1), (tokens * ~of_first).sum(1)
    scores = cheat_scores(logp1, logp2)
    return SelfCheat(logp1, logp2, scores.variance, scores.confidence)


@torch.no_grad()
def sample_responses(
    model: nn.Module,
    prompts: Int[Tensor, "prompts length"] | ReadPrompts,
    *,
    separator: int | None = None,
    max_new_tokens: int = 64,
    generator: torch.Generator | None = None,
) -> list[Tokens | None]:
    """Draw a response from p₁ for each prompt; None where it did not end within ``max_new_tokens``.

    Args:
        model: a causal language model in evaluation mode.
        prompts: of one length, or what `read_prompts` returned.
        separator: the id that ends a response; by default ``eos_token_id`` of the model's config.
        max_new_tokens: of a response, at least 1, the separator not counted.
        generator: of the draws, on the model's device.

    Raises:
        ValueError: if the model is in training mode, the prompts are empty, or max_new_tokens is below 1.
    """
    _check_evaluating(model)
    separator = _separator(model, separator)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if isinstance(prompts, Tensor):
        prompts = read_prompts(model, prompts)
    cache, logits = _copied(prompts.cache, 1), prompts.logits
    drawn: list[Tensor] = []
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    for _ in range(max_new_tokens + 1):
        probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
        token = torch.multinomial(probs, 1, generator=generator)
        drawn.append(token)
        ended |= token.squeeze(1) == separator
        if bool(ended.all()) or len(drawn) > max_new_tokens:
            break
        read = model(input_ids=token, past_key_values=cache, use_cache=True)
        cache, logits = read.past_key_values, read.logits[:, -1]
    rows = torch.cat(drawn, 1)
    lengths = (rows == separator).long().argmax(1).tolist()
    return [row[:length] if done else None for row, length, done in zip(rows, lengths, ended.tolist(), strict=True)]


@torch.no_grad()
def answer_or_abstain(
    model: nn.Module,
    prompt: Tokens,
    beta: float,
    *,
    separator: int | None = None,
    mode: Literal["filter", "reject", "top1"] = "reject",
    candidates: Sequence[Tokens] | None = None,
    max_tries: int = 10,
    max_new_tokens: int = 64,
    generator: torch.Generator | None = None,
) -> PairAnswer:
    """Return a response whose doubt 1 − C is at most β, or abstain; see `aleator.stats.selective_decode`.

    Of the answers that are given in this way a share of at most β is impossible, if the model is calibrated. A response
    that does not end within ``max_new_tokens`` is not given.

    Args:
        model: a causal language model in evaluation mode.
        prompt: token ids.
        beta: in (0, 1).
        separator: the id that ends a response; by default ``eos_token_id`` of the model's config.
        mode: ``"filter"`` draws once, ``"reject"`` until a response is good enough, ``"top1"`` takes the likeliest of
            the candidates that is.
        candidates: the responses to choose from, for ``"top1"`` and for it alone.
        max_tries: how many responses are looked at.
        max_new_tokens: of a response.
        generator: of the draws, on the model's device.

    Raises:
        ValueError: if a value is out of range, the model is in training mode, or candidates and mode do not fit.
    """
    if (candidates is not None) != (mode == "top1"):
        given = "none" if candidates is None else f"{len(candidates)}"
        raise ValueError(f"candidates must be given with mode top1 and with no other, got {given} with mode {mode}")
    read = read_prompts(model, prompt.unsqueeze(0))
    confidences: dict[int, float] = {}

    def draw() -> Tensor | None:
        (response,) = sample_responses(
            model, read, separator=separator, max_new_tokens=max_new_tokens, generator=generator
        )
        return response

    def confidence(response: Tensor | None) -> float:
        if response is None:
            return 0.0
        if id(response) not in confidences:
            scores = self_cheat_scores(model, read, [response], separator=separator)
            confidences[id(response)] = float(scores.confidence.clamp(max=1))
        return confidences[id(response)]

    sampler = draw
    if candidates is not None:
        scores = self_cheat_scores(model, read, candidates, separator=separator)
        ranked = [candidates[i] for i in scores.logp1.argsort(descending=True).tolist()]
        values = scores.confidence.clamp(max=1).tolist()
        confidences |= {id(y): value for y, value in zip(candidates, values, strict=True)}
        sampler = iter(ranked).__next__
    answer = selective_decode(sampler, confidence, beta, mode, max_tries)
    if answer is ABSTAIN or answer is None:
        return PairAnswer(ABSTAIN, None, beta)
    return PairAnswer(answer, confidence(answer), beta)


def _rows(texts: Texts) -> Sequence[Tensor]:
    """Return one row of token ids for each text."""
    if isinstance(texts, Tensor):
        return [texts] if texts.ndim == 1 else list(texts)
    return texts


def _separator(model: nn.Module, given: int | None) -> int:
    own = getattr(getattr(model, "config", None), "eos_token_id", None) if given is None else given
    if not isinstance(own, int):
        raise ValueError(f"separator must be given where a model's config has no single eos_token_id, got {own}")
    return own


def _token_log_probs(logits: Tensor, targets: Tensor) -> Float[Tensor, "batch length"]:
    """Return the log-probability of every target in float64, 0 where it is `IGNORED`."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.cross_entropy(scores.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none").double()


def _padded(rows: Sequence[Tensor], value: int) -> Int[Tensor, "batch length"]:
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _copied(cache: Any, times: int) -> Any:
    """Return a copy of keys and values, which a model adds to in place, each prompt's ``times`` times in a row."""
    copied = copy.deepcopy(cache)
    if times > 1:
        copied.batch_repeat_interleave(times)
    return copied


def _check_evaluating(model: nn.Module) -> None:
    if model.training:
        raise ValueError("model must be in evaluation mode, got one in training mode: call model.eval()")


def _check_responses(name: str, responses: Sequence[Tensor], separator: int) -> None:
    for row in responses:
        if row.ndim != 1 or row.is_floating_point():
            raise ValueError(f"{name} must be rows of token ids, got {row.dtype} of shape {tuple(row.shape)}")
        if bool((row == separator).any()):
            raise ValueError(
                f"{name} must not hold the separator {separator}, which ends a response, got {row.tolist()}"
            )
