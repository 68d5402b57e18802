"""Treebanks for part-of-speech tagging: words with their universal tags, in the splits of Universal Dependencies.

A CoNLL-U file has a line of ten tab-separated columns for each word, comments that begin with ``#``, and an empty line
after each sentence. Read here are the word (column 2), its universal tag (column 4) and the comment ``# text``, the
sentence as it was written. Lines for a range of words (``3-4``, a contraction, written as one) and for words that are
not written (``8.1``) carry no tag that counts and are skipped.

M.-C. de Marneffe et al., "Universal Dependencies", Computational Linguistics 47(2), 2021.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import read_text
from aleator.data.sets.texts import TextCorpus, TextDomain

UNIVERSAL_TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)

_COLUMNS = 10
_FILE_NAME = re.compile(r"([a-z]+)_.+-ud-(train|dev|test)\.conllu(?:\.gz)?")
_NOT_A_WORD = re.compile(r"[0-9]+[-.][0-9]+")


class TaggedSentence(NamedTuple):
    """The words of a sentence and the universal tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class WrittenSentence(NamedTuple):
    """A sentence with its text as it was written."""

    tagged: TaggedSentence
    text: str


@dataclass(frozen=True)
class Treebank:
    """Sentences with the universal part-of-speech tag of each word, split as published.

    Attributes:
        name: the data set's name.
        language: the code of the language, such as ``"en"``.
        train: the training sentences.
        dev: the sentences for validation; empty where none are published.
        test: the test sentences.
        texts: the same sentences as they were written: for training, validation and test.
        notes: what a user should know.
    """

    name: str
    language: str
    train: tuple[TaggedSentence, ...]
    dev: tuple[TaggedSentence, ...]
    test: tuple[TaggedSentence, ...]
    texts: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """The 17 universal tags in alphabetical order, whether or not the treebank uses them all."""
        return UNIVERSAL_TAGS

    def corpus(self) -> TextCorpus:
        """Return the sentences as they were written, one a line: a corpus of one domain, the language."""
        train, dev, test = ("\n".join(lines) for lines in self.texts)
        return TextCorpus(self.name, (TextDomain.from_strings(self.language, train, dev, test),), self.notes)


def treebank(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> Treebank:
    """Return the treebank of a catalogue entry; the files' checksums were compared before.

    Raises:
        ValueError: if a file is not CoNLL-U.
    """
    parts: dict[str, list[WrittenSentence]] = {}
    language = ""
    for name, path in paths.items():
        match = _FILE_NAME.fullmatch(name)
        assert match is not None  # the catalogue has the names of Universal Dependencies
        language, part = match.groups()
        parts[part] = read_conllu(path)
    train, dev, test = (parts.get(part, []) for part in ("train", "dev", "test"))
    return Treebank(
        name=info.name,
        language=language,
        train=tuple(sentence.tagged for sentence in train),
        dev=tuple(sentence.tagged for sentence in dev),
        test=tuple(sentence.tagged for sentence in test),
        texts=(_texts(train), _texts(dev), _texts(test)),
        notes=notes,
    )


def read_conllu(path: Path) -> list[WrittenSentence]:
    """Read the sentences of a CoNLL-U file, gzipped if its name ends in ``.gz``.

    Raises:
        ValueError: if a line is malformed; the message begins with the file and the number of the line.
    """
    sentences: list[WrittenSentence] = []
    words: list[str] = []
    tags: list[str] = []
    text: str | None = None
    # Only "\n" ends a line: a word may hold other characters that Python takes for a line's end.
    for number, line in enumerate((read_text(path).removesuffix("\n") + "\n").split("\n"), 1):
        if line.startswith("#"):
            if line.startswith("# text = "):
                text = line.removeprefix("# text = ")
        elif line:
            columns = line.split("\t")
            if len(columns) != _COLUMNS or "" in columns:
                raise ValueError(f"{path}:{number}: a word must have 10 columns, none empty, got {line[:60]!r}")
            if _NOT_A_WORD.fullmatch(columns[0]):
                continue
            if columns[0] != str(len(words) + 1):
                raise ValueError(f"{path}:{number}: the word's number must be {len(words) + 1}, got {columns[0]!r}")
            if columns[3] not in UNIVERSAL_TAGS:
                raise ValueError(f"{path}:{number}: the tag must be one of the 17 universal ones, got {columns[3]!r}")
            words.append(columns[1])
            tags.append(columns[3])
        elif words or text is not None:
            if not words or text is None:
                missing = "words" if not words else "line '# text = …'"
                raise ValueError(f"{path}:{number}: the sentence that ends here has no {missing}")
            sentences.append(WrittenSentence(TaggedSentence(tuple(words), tuple(tags)), text))
            words, tags, text = [], [], None
    return sentences


def _texts(sentences: list[WrittenSentence]) -> tuple[str, ...]:
    return tuple(sentence.text for sentence in sentences)
