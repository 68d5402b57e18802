"""Boundary rates α of scripts, estimated from text.

    words:     α = 1/R,  R = mean over documents of (bytes / whitespace-separated words)          MAGNET, equation 4
    parallel:  α_L = α_anchor · μ_anchor/μ_L,  μ = mean bytes of a sentence, the same sentences    FLEXITOKENS

The first makes a segment as long as a word of the script's anchor language. The second gives the same content the same
expected number of segments in every language, and is the better one where there is parallel text.

O. Ahia et al., "MAGNET", NeurIPS 2024, arXiv 2407.08818; A. Owodunni, O. Ahia and S. Kumar, "FLEXITOKENS", 2025,
arXiv 2507.12720.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


def rates_from_words(documents: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return α by the rule of words.

    Args:
        documents: for each script documents of its anchor language. Those without a word are left out.

    Raises:
        ValueError: if a script has no word, or its words are a byte long and α would be 1.
    """
    rates = {}
    for name, texts in documents.items():
        ratios = [len(text.encode()) / len(text.split()) for text in texts if text.split()]
        if not ratios:
            raise ValueError(f"the documents of {name} must have at least one word, got none")
        rates[name] = _checked(name, len(ratios) / sum(ratios))
    return rates


def rates_from_parallel(texts: Mapping[str, Sequence[str]], *, anchor: str, anchor_rate: float) -> dict[str, float]:
    """Return α by the rule of parallel sentences.

    Args:
        texts: for each language, or script, the same sentences in the same order. A sentence that is missing in one
            language, where its line is empty or of white space, is left out in all; the log says how many are.
        anchor: the language whose α is known.
        anchor_rate: that α, in (0, 1).

    Raises:
        ValueError: if the anchor is not among the texts, they are not parallel, no sentence is in all languages, or an
            α would not be in (0, 1).
    """
    complete, missing = complete_lines(texts, anchor)
    _checked(anchor, anchor_rate)
    if missing:
        logger.warning("%d of %d lines are left out: they are empty in some language", missing, len(texts[anchor]))
    # The number of sentences is the same in all languages, so sums do for means.
    sizes = {name: sum(len(line.encode()) for line in lines) for name, lines in complete.items()}
    return {name: _checked(name, anchor_rate * sizes[anchor] / size) for name, size in sizes.items()}


def rates_from_corpus(
    files: Mapping[str, str | Path], *, anchor: str | None = None, anchor_rate: float | None = None
) -> dict[str, float]:
    """Return α from text files, one document or sentence in a line: by `rates_from_parallel` if an anchor is given.

    Args:
        files: the file of each name.
        anchor: with parallel files, the language whose α is known.
        anchor_rate: that α.

    Raises:
        ValueError: if only one of ``anchor`` and ``anchor_rate`` is given, or as of the two rules.
        FileNotFoundError: if a file does not exist.
    """
    texts = {name: read_lines(path) for name, path in files.items()}
    if anchor is None and anchor_rate is None:
        return rates_from_words(texts)
    if anchor is None or anchor_rate is None:
        raise ValueError(f"anchor and anchor_rate must be given together, got {anchor} and {anchor_rate}")
    return rates_from_parallel(texts, anchor=anchor, anchor_rate=anchor_rate)


def read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file in UTF-8, without the byte-order mark that some programs begin it with.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is not UTF-8.
    """
    try:
        # Not splitlines, which also parts at separators that are characters of a sentence.
        return Path(path).read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from None


def complete_lines(texts: Mapping[str, Sequence[str]], anchor: str) -> tuple[dict[str, list[str]], int]:
    """Return the lines that no language lacks, and how many are left out because one has nothing but white space there.

    Raises:
        ValueError: if languages do not have equally many lines, none is left, or the anchor is not among them.
    """
    if anchor not in texts:
        raise ValueError(
            f"anchor must be one of {', '.join(texts) or 'the languages, of which there are none'}, got {anchor!r}"
        )
    counts = {name: len(lines) for name, lines in texts.items()}
    if len(set(counts.values())) != 1 or not counts[anchor]:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"parallel texts must have the same number of lines, at least one, got {found}")
    # Python's readers hand the mark on as a character of the first line.
    lines = {name: [text[0].removeprefix("\ufeff"), *text[1:]] for name, text in texts.items()}
    kept = [index for index in range(counts[anchor]) if all(text[index].strip() for text in lines.values())]
    if not kept:
        raise ValueError(f"parallel texts must have a line that no language lacks, got none in {counts[anchor]}")
    return {name: [text[index] for index in kept] for name, text in lines.items()}, counts[anchor] - len(kept)


def _checked(name: str, rate: float) -> float:
    if not 0 < rate < 1:
        raise ValueError(f"the rate of {name} must be in (0, 1), got {rate:.4g}")
    return rate
