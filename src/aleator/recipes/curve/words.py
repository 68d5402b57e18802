"""Tagged words as integers, and what a tagger may look at in a word.

Every distinct form of a treebank gets a number, in training and held-out parts alike, so that counting is array
arithmetic and a tagger can be trained anew at every level of a learning curve. The number says nothing about the
form: a tagger knows of a form what it has seen of it in training, and its letters.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from aleator.data import TaggedSentence

BUCKETS = 2**18
"""Numbers that features of a word are hashed to."""

AFFIX = 3
"""Letters of the longest prefix and suffix."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The distinct forms, as written.

    Attributes:
        forms: the form of each number.
        tags: the tag of each number.
    """

    forms: tuple[str, ...]
    tags: tuple[str, ...]

    @cached_property
    def words(self) -> Int[np.ndarray, " forms"]:
        """Number of each form's lower-cased word."""
        return _numbers(form.lower() for form in self.forms)

    @cached_property
    def suffixes(self) -> tuple[Int[np.ndarray, " forms"], ...]:
        """Number of each form's last letters, lower-cased, together with its shape: for 0, 1, 2 and 3 letters."""
        shaped = [(form.lower(), shape(form)) for form in self.forms]
        return tuple(_numbers((word[-n:] if n else "", code) for word, code in shaped) for n in range(AFFIX + 1))

    @cached_property
    def own_features(self) -> Int[np.ndarray, "forms features"]:
        """Hashed features of a form itself: word, prefixes and suffixes up to 3 letters, shape."""
        return _hashed(
            [
                f"word={form.lower()}",
                *(f"prefix={form.lower()[:n]}" for n in range(1, AFFIX + 1)),
                *(f"suffix={form.lower()[-n:]}" for n in range(1, AFFIX + 1)),
                f"shape={shape(form)}",
            ]
            for form in self.forms
        )

    @cached_property
    def neighbour_features(self) -> tuple[Int[np.ndarray, "rows features"], Int[np.ndarray, "rows features"]]:
        """Hashed word and suffix of a form that comes before, and after; the last row is the end of the sentence."""

        def of_side(side: str) -> Int[np.ndarray, "rows features"]:
            rows = [[f"{side} word={form.lower()}", f"{side} suffix={form.lower()[-AFFIX:]}"] for form in self.forms]
            return _hashed([*rows, [f"{side} word", f"{side} suffix"]])

        return of_side("before"), of_side("after")


@dataclass(frozen=True, eq=False)
class TaggedWords:
    """Sentences as the numbers of their forms and tags, one after the other.

    Attributes:
        vocabulary: what the numbers stand for.
        forms: of every word.
        tags: of every word.
        lengths: number of words of every sentence.
    """

    vocabulary: Vocabulary
    forms: Int[np.ndarray, " words"]
    tags: Int[np.ndarray, " words"]
    lengths: Int[np.ndarray, " sentences"]

    def __len__(self) -> int:
        return len(self.forms)

    @cached_property
    def starts(self) -> Int[np.ndarray, " sentences"]:
        """Place of every sentence's first word."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    def first(self, sentences: int) -> TaggedWords:
        """Return the first sentences."""
        words = int(self.lengths[:sentences].sum())
        return TaggedWords(self.vocabulary, self.forms[:words], self.tags[:words], self.lengths[:sentences])

    def where(self, chosen: Bool[np.ndarray, " sentences"]) -> TaggedWords:
        """Return the chosen sentences, in their order."""
        words = np.repeat(chosen, self.lengths)
        return TaggedWords(self.vocabulary, self.forms[words], self.tags[words], self.lengths[chosen])

    def features(self) -> Int[np.ndarray, "words features"]:
        """Return the hashed features of every word and of its neighbours, as many for each word."""
        none = len(self.vocabulary.forms)
        before = np.concatenate([[none], self.forms])[: len(self)]
        after = np.concatenate([self.forms, [none]])[1 : len(self) + 1]
        before[self.starts] = none
        after[self.starts + self.lengths - 1] = none
        left, right = self.vocabulary.neighbour_features
        own = self.vocabulary.own_features[self.forms]
        features: Int[np.ndarray, "words features"] = np.concatenate([own, left[before], right[after]], axis=1)
        return features


def encode(parts: Sequence[Sequence[TaggedSentence]], tags: Sequence[str]) -> list[TaggedWords]:
    """Return each part's sentences as numbers of one vocabulary, in order of first appearance."""
    numbers = {form: i for i, form in enumerate(dict.fromkeys(f for part in parts for s in part for f in s.words))}
    of_tag = {tag: i for i, tag in enumerate(tags)}
    vocabulary = Vocabulary(tuple(numbers), tuple(tags))
    return [
        TaggedWords(
            vocabulary,
            np.array([numbers[form] for sentence in part for form in sentence.words], dtype=np.int64),
            np.array([of_tag[tag] for sentence in part for tag in sentence.tags], dtype=np.int64),
            np.array([len(sentence.words) for sentence in part], dtype=np.int64),
        )
        for part in parts
    ]


def shape(form: str) -> str:
    """Return the code of a word's shape: ``C`` capitalised, ``D`` has a digit, ``S`` has neither letter nor digit."""
    has_digit = any(letter.isdigit() for letter in form)
    sign = not any(letter.isalnum() for letter in form)
    return f"{'C' * form[:1].isupper()}{'D' * has_digit}{'S' * sign}"


def _numbers(keys: Iterable[Hashable]) -> Int[np.ndarray, " forms"]:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _hashed(rows: Iterable[Sequence[str]]) -> Int[np.ndarray, "rows features"]:
    # CRC32 is the same on every machine; Python's own hash of a string changes with every process.
    return np.array([[zlib.crc32(feature.encode()) % BUCKETS for feature in row] for row in rows], dtype=np.int32)
