"""Part-of-speech taggers that train in a second or less, so that a learning curve of many levels is cheap.

    suffix, suffix-rare   the most frequent tag of the word, or of its ending where the word is new: no context
    naive-bayes           multinomial naive Bayes on the word, its affixes and its neighbours
    perceptron            averaged perceptrons, one tag against the rest, on the same features, three epochs
    hmm                   bigram hidden Markov model with a suffix model for rare words, decoded by Viterbi

Each is trained from nothing on the words that it is given; training on a part of the data is never continued on more.

Sources: the hidden Markov model follows T. Brants, TnT, ANLP 2000 (words scored by Bayes' inversion of P(tag | suffix),
suffixes counted on words seen at most ten times), with bigrams and simpler smoothing. The averaged perceptron is from
M. Collins, EMNLP 2002, without tags of earlier words.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from aleator.recipes.curve.words import BUCKETS, TaggedWords

TaggerName = Literal["suffix", "suffix-rare", "naive-bayes", "perceptron", "hmm"]

RARE = 10
"""A word seen at most this often counts as rare."""

_EPOCHS = 3

Tags = Int[np.ndarray, " words"]
OfForms = Int[np.ndarray, " forms"]
Counts = Float[np.ndarray, "forms tags"]


@runtime_checkable
class Tagger(Protocol):
    """What is trained at a level."""

    def fit(self, words: TaggedWords) -> None:
        """Train from nothing."""
        ...

    def predict(self, words: TaggedWords) -> Tags:
        """Return the number of each word's tag."""
        ...


def make_tagger(name: TaggerName, key: int) -> Tagger:
    """Return an untrained tagger.

    Args:
        name: which one.
        key: the source of its random numbers; only the perceptron draws any, for the order of its examples.

    Raises:
        ValueError: if the name is unknown.
    """
    if name in ("suffix", "suffix-rare"):
        return SuffixTagger(rare=RARE if name == "suffix-rare" else None)
    if name in ("naive-bayes", "perceptron"):
        return FeatureTagger(name, key)
    if name == "hmm":
        return BigramTagger()
    raise ValueError(f"tagger must be one of suffix, suffix-rare, naive-bayes, perceptron, hmm, got {name!r}")


class SuffixTagger:
    """The most frequent tag of the lower-cased word; for an unknown word the longest known suffix's.

    Suffixes have 3, 2, 1 or 0 letters and go together with the word's shape. Of equally frequent tags the first in the
    alphabet is taken.

    Args:
        rare: count suffixes of words seen at most this often; None counts suffixes of all words.
    """

    def __init__(self, rare: int | None = None) -> None:
        self.rare = rare

    def fit(self, words: TaggedWords) -> None:
        """Count."""
        vocabulary = words.vocabulary
        counts = _tag_counts(words)
        of_word = _pooled(counts, vocabulary.words)
        # From the last resort to the best: what a later table knows replaces what an earlier one said.
        tags = np.full(len(counts), counts.sum(axis=0).argmax())
        rare = counts if self.rare is None else counts * (of_word.sum(axis=1, keepdims=True) <= self.rare)
        for ids in vocabulary.suffixes:
            tags = _known_or(_pooled(rare, ids), tags)
        self.tags = _known_or(of_word, tags)

    def predict(self, words: TaggedWords) -> Tags:
        """Look up."""
        tags: Tags = self.tags[words.forms]
        return tags


class FeatureTagger:
    """A linear classifier of each word by hashed features of the word and of its neighbours.

    Args:
        kind: ``"naive-bayes"`` or ``"perceptron"``.
        key: of the order in which the perceptron sees its examples.
    """

    def __init__(self, kind: Literal["naive-bayes", "perceptron"], key: int) -> None:
        from sklearn.linear_model import SGDClassifier
        from sklearn.naive_bayes import MultinomialNB

        self.classifier: Any = (
            MultinomialNB(alpha=0.1)
            if kind == "naive-bayes"
            else SGDClassifier(
                loss="perceptron",
                penalty=None,
                learning_rate="constant",
                eta0=1.0,
                average=True,
                max_iter=_EPOCHS,
                tol=None,
                random_state=key % 2**32,
            )
        )

    def fit(self, words: TaggedWords) -> None:
        """Train the classifier."""
        features = words.features()
        # Weights only of what occurs: the classifier's cost then follows the level's size.
        used = np.zeros(BUCKETS, dtype=bool)
        used[features] = True
        self.columns = np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)
        self.classifier.fit(self._matrix(features), words.tags)

    def predict(self, words: TaggedWords) -> Tags:
        """Return the tag with the highest score."""
        tags: Tags = self.classifier.predict(self._matrix(words.features()))
        return tags

    def _matrix(self, features: Int[np.ndarray, "words features"]) -> Any:
        """One row a word, a 1 for each of its features; those that training never saw count nothing."""
        from scipy.sparse import csr_array

        columns = self.columns[features.ravel()]
        ends = np.arange(len(features) + 1, dtype=np.int32) * features.shape[1]
        values = (columns >= 0).astype(np.float64)
        return csr_array((values, np.maximum(columns, 0), ends), shape=(len(features), int(self.columns.max()) + 1))


class BigramTagger:
    """A hidden Markov model of tags.

    The words w and tags t of a sentence score Σ log P(t_i | t_{i−1}) + log P(t_i | w_i) − log P(t_i): by Bayes' rule
    the last two are log P(w_i | t_i), but for what does not depend on the tags. P(t | w) is smoothed towards shorter
    and shorter suffixes with their shape, n_k(t) being counts of k letters, and at last of the word:

        P_k(t) = (n_k(t) + P_{k−1}(t)) / (n_k + 1)

    Suffixes come from words seen at most 10 times, because these are like words that come up for the first time.
    """

    def fit(self, words: TaggedWords) -> None:
        """Count words, suffixes and pairs of tags."""
        vocabulary = words.vocabulary
        size = len(vocabulary.tags)
        counts = _tag_counts(words)
        of_word = _pooled(counts, vocabulary.words)
        rare = counts * (of_word.sum(axis=1, keepdims=True) <= RARE)
        prior = (counts.sum(axis=0) + 1) / (counts.sum() + size)
        share = np.tile(prior, (len(counts), 1))
        for ids in vocabulary.suffixes:
            share = _smoothed(_pooled(rare, ids), share)
        self.emission = np.log(_smoothed(of_word, share) / prior)
        before = np.concatenate([[size], words.tags])[: len(words)]
        before[words.starts] = size  # the row of what is before a sentence
        pairs = np.bincount(before * size + words.tags, minlength=(size + 1) * size).reshape(size + 1, size) + 1.0
        self.transition = np.log(pairs / pairs.sum(axis=1, keepdims=True))

    def predict(self, words: TaggedWords) -> Tags:
        """Return the best tags of every sentence (Viterbi), all sentences at once, position by position."""
        order = np.argsort(-words.lengths, kind="stable")
        starts, lengths = words.starts[order], words.lengths[order]
        places = [starts[: np.count_nonzero(lengths > i)] + i for i in range(lengths.max(initial=0))]
        score = self.transition[-1] + self.emission[words.forms[starts]]
        pointers = []
        for at in places[1:]:
            paths = score[: len(at), :, None] + self.transition[:-1]
            pointers.append(paths.argmax(axis=1))
            score[: len(at)] = paths.max(axis=1) + self.emission[words.forms[at]]
        tags = np.zeros(len(words), dtype=np.int64)
        current = score.argmax(axis=1)
        for at, pointer in zip(reversed(places), [*reversed(pointers), None], strict=True):
            tags[at] = current[: len(at)]
            if pointer is not None:
                current[: len(at)] = np.take_along_axis(pointer, current[: len(at), None], axis=1)[:, 0]
        return tags


def _tag_counts(words: TaggedWords) -> Counts:
    """How often each form has each tag."""
    forms, tags = len(words.vocabulary.forms), len(words.vocabulary.tags)
    return np.bincount(words.forms * tags + words.tags, minlength=forms * tags).reshape(forms, tags).astype(np.float64)


def _pooled(counts: Counts, ids: OfForms) -> Counts:
    """Give each form the sum of the counts of all forms with its id."""
    pooled = np.zeros((int(ids.max(initial=-1)) + 1, counts.shape[1]))
    np.add.at(pooled, ids, counts)
    return np.asarray(pooled[ids])


def _known_or(counts: Counts, otherwise: OfForms) -> OfForms:
    return np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), otherwise)


def _smoothed(counts: Counts, towards: Counts) -> Counts:
    return np.asarray((counts + towards) / (counts.sum(axis=1, keepdims=True) + 1))
