"""Fairness of a model between languages: what the same content costs in each.

For parallel text, per language the segments that the model makes of it, their ratio to the segments of an anchor
language, and bits per byte; over the languages the largest ratio between two of them and the coefficient of variation
of segments,

    CV = √(mean (S_L − S̄)²) / S̄.

All of it 1 (or 0) would mean that the same content costs the same in every language. What a segment is, a model says
itself: bytes for a byte-level model, pooled groups for an hourglass.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.language.bytes_vocabulary import PADDING, BytesVocabulary
from aleator.language.language_model import LanguageModel
from aleator.language.rates import complete_lines


@dataclass(frozen=True)
class LanguageCost:
    """What the text of one language costs.

    Attributes:
        bytes: of UTF-8.
        segments: over all lines; the expected number where boundaries are sampled.
        ratio: segments relative to the anchor language's.
        bits_per_byte: −log₂ p of the predicted bytes, those that are not the first of their window, per byte.
        bytes_per_second: read by the model, if that was measured.
    """

    bytes: int
    segments: float
    ratio: float
    bits_per_byte: float
    bytes_per_second: float | None = None


@dataclass(frozen=True)
class FairnessReport:
    """The costs of parallel text.

    Attributes:
        anchor: the language that ratios are relative to.
        languages: the cost of each.
        spread: most segments of a language divided by fewest; infinite where a language has none.
        variation: the coefficient of variation of segments.
        lines: that were counted in every language.
        left_out: lines that were not, in none of them, because one has nothing but white space there.
    """

    anchor: str
    languages: dict[str, LanguageCost]
    spread: float
    variation: float
    lines: int
    left_out: int

    HEADINGS = ("language", "bytes", "segments", "ratio", "bytes/segment", "bits/byte", "bytes/s")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows, one for each language, as text."""
        return [
            (
                name,
                f"{cost.bytes:,}",
                f"{cost.segments:,.1f}",
                f"{cost.ratio:.3f}",
                f"{cost.bytes / cost.segments:.2f}" if cost.segments else "–",
                f"{cost.bits_per_byte:.3f}",
                "–" if cost.bytes_per_second is None else f"{cost.bytes_per_second:,.0f}",
            )
            for name, cost in self.languages.items()
        ]

    def summary(self) -> str:
        """Return one line about all languages."""
        text = f"most / fewest segments {self.spread:.3f}, coefficient of variation {self.variation:.3f}"
        if not self.left_out:
            return text
        return f"{text}; {self.left_out} of {self.lines + self.left_out} lines left out, empty in some language"


def fairness_report(
    model: LanguageModel,
    parallel_texts: Mapping[str, Sequence[str]],
    *,
    anchor: str,
    scripts: Mapping[str, str] | None = None,
    window: int = 512,
    batch_size: int = 16,
    speed: bool = False,
    generator: torch.Generator | None = None,
) -> FairnessReport:
    """Return what the same content costs in each language. Dropout is off meanwhile.

    Args:
        model: any model of the room.
        parallel_texts: for each language the same lines in the same order. A line that is empty or of white space in
            one language is left out in all, and the report says how many are.
        anchor: the language that ratios are relative to.
        scripts: by which name the model knows a language's script; by default by the language's own.
        window: lines are cut after this many bytes.
        batch_size: windows in a batch.
        speed: whether to measure bytes per second, on the second of two passes.
        generator: what boundaries are drawn from where they are sampled, on the model's device.

    Raises:
        ValueError: if a size is below 1, the texts are not parallel or empty, the anchor is not among them, or the
            model does not know a script.
    """
    complete, left_out = complete_lines(parallel_texts, anchor)
    for name, value in (("window", window), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    was_training = model.training
    model.eval()
    try:
        costs = {}
        for language, lines in complete.items():
            name = language if scripts is None else scripts.get(language, language)
            found = _cost(model, name, lines, window, batch_size, generator)
            if speed:
                found = _cost(model, name, lines, window, batch_size, generator)
            costs[language] = found
    finally:
        model.train(was_training)
    base = costs[anchor][1]
    languages = {
        language: LanguageCost(
            bytes=size,
            segments=segments,
            ratio=segments / base if base else math.nan,
            bits_per_byte=bits,
            bytes_per_second=size / seconds if speed else None,
        )
        for language, (size, segments, bits, seconds) in costs.items()
    }
    spread, variation = spread_and_variation([cost.segments for cost in languages.values()])
    return FairnessReport(anchor, languages, spread, variation, len(complete[anchor]), left_out)


def spread_and_variation(segments: Sequence[float]) -> tuple[float, float]:
    """Return the largest of several numbers divided by the smallest, and their coefficient of variation."""
    mean = statistics.fmean(segments)
    spread = max(segments) / min(segments) if min(segments) else math.inf
    return spread, statistics.pstdev(segments) / mean if mean else math.nan


def _cost(
    model: LanguageModel,
    script: str,
    lines: Sequence[str],
    window: int,
    batch_size: int,
    generator: torch.Generator | None,
) -> tuple[int, float, float, float]:
    """Return bytes, segments, bits per byte and seconds."""
    device = next(model.parameters()).device
    size, started = 0, time.perf_counter()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with torch.no_grad():
        for ids, mask in _batches(lines, window, batch_size):
            size += int(mask.sum())
            measured = model.measure(ids.to(device), [script] * len(ids), mask.to(device), generator)
            sums += torch.stack([part.sum() for part in measured]).double()
    segments, nats, predicted = sums.tolist()
    return size, segments, nats / math.log(2) / max(predicted, 1), time.perf_counter() - started


def _batches(lines: Sequence[str], window: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    vocabulary = BytesVocabulary()
    encoded = [vocabulary.encode(line) for line in lines]
    windows = [ids[start : start + window] for ids in encoded for start in range(0, len(ids), window)]
    windows.sort(key=len)  # windows of similar lengths share a batch
    for start in range(0, len(windows), batch_size):
        chosen = [torch.tensor(ids) for ids in windows[start : start + batch_size]]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=PADDING)
        lengths = torch.tensor([len(row) for row in chosen])
        yield ids, torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
