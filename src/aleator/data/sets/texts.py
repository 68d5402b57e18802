"""Texts as bytes in memory, by domain: ``load("udhr2").domain("eng").train``.

A domain is one language, genre or source. A model that reads bytes needs no tokenizer and no vocabulary, so a text is
its UTF-8 bytes. Where a text of n bytes is split, with shares v and t for validation and test, it is cut at

    n - round(v·n) - round(t·n)   and   n - round(t·n),

each moved back to where a character begins. `ParallelCorpus` is the same sentences in several languages.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from aleator.data.sets.readers import read_text

Split = Literal["train", "validation", "test"]

# typing.Self is more than the shape-checking hook of the tests understands.
_Corpus = TypeVar("_Corpus", bound="TextCorpus")


@dataclass(frozen=True, eq=False)
class TextDomain:
    """One language, genre or source.

    Attributes:
        name: the domain's name, such as ``"eng"``.
        train: the training text as UTF-8 bytes.
        validation: the validation text as UTF-8 bytes.
        test: the test text as UTF-8 bytes.
    """

    name: str
    train: UInt8[Tensor, " train_bytes"]
    validation: UInt8[Tensor, " validation_bytes"]
    test: UInt8[Tensor, " test_bytes"]

    @classmethod
    def from_strings(cls, name: str, train: str, validation: str, test: str) -> TextDomain:
        """Return the domain of three texts."""
        return cls(name, _bytes(train), _bytes(validation), _bytes(test))

    def text(self, split: Split) -> str:
        """Return the text of a split as a string.

        Raises:
            ValueError: if the split is not ``"train"``, ``"validation"`` or ``"test"``.
        """
        if split not in get_args(Split):
            raise ValueError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
        content: Tensor = getattr(self, split)
        return content.numpy().tobytes().decode()


@dataclass(frozen=True, eq=False)
class TextCorpus:
    """Texts of one or more domains.

    Attributes:
        name: the data set's name.
        domains: the domains, of unique names.
        notes: what a user should know; a set that is only there in part says so here.

    Raises:
        ValueError: if there is no domain, or two have the same name.
    """

    name: str
    domains: tuple[TextDomain, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.domains:
            raise ValueError("domains must hold at least one domain, got none")
        names = [domain.name for domain in self.domains]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"domains must have unique names, got {twice[0]!r} {names.count(twice[0])} times")

    def domain(self, name: str) -> TextDomain:
        """Return a domain by its name.

        Raises:
            ValueError: if no domain has this name.
        """
        return self._found(name, "name must be a domain")

    def only(self: _Corpus, names: Iterable[str]) -> _Corpus:
        """Return the corpus of some of the domains, in the order of ``names``.

        Raises:
            ValueError: if there is no name, a name twice, or one that no domain has.
        """
        return dataclasses.replace(self, domains=tuple(self._found(name, "domains must be some") for name in names))

    def _found(self, name: str, wanted: str) -> TextDomain:
        by_name = {domain.name: domain for domain in self.domains}
        if name in by_name:
            return by_name[name]
        near = difflib.get_close_matches(name, by_name, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{wanted} of {self.name} ({_listed(by_name)}), got {name!r}{hint}")


@dataclass(frozen=True, eq=False)
class ParallelCorpus(TextCorpus):
    """The same sentences in several languages, one a line: line i of a split is the same in every domain.

    Raises:
        ValueError: as `TextCorpus`, or if two domains differ in their numbers of lines.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in get_args(Split):
            lines = {domain.name: int((getattr(domain, split) == ord("\n")).sum()) + 1 for domain in self.domains}
            if len(set(lines.values())) > 1:
                most, fewest = max(lines, key=lines.__getitem__), min(lines, key=lines.__getitem__)
                raise ValueError(
                    f"domains must have the same number of {split} lines, got {lines[fewest]} of {fewest!r} and "
                    f"{lines[most]} of {most!r}"
                )

    def sentences(self, split: Split) -> dict[str, list[str]]:
        """Return the sentences of a split by language; sentences of equal index are translations of each other.

        Raises:
            ValueError: if the split is not ``"train"``, ``"validation"`` or ``"test"``.
        """
        return {domain.name: domain.text(split).split("\n") for domain in self.domains}


def read_texts(files: Mapping[str, str | Path], *, validation: float = 0.1, test: float = 0.1) -> TextCorpus:
    """Read a user's own texts: UTF-8 files, gzipped where the name ends in ``.gz``, one for each domain.

    Args:
        files: the path of each domain's file, by the domain's name.
        validation: share of each text's bytes before the test part, in (0, 1), for validation.
        test: share of each text's bytes at its end, in (0, 1), for the test.

    Returns:
        The corpus ``"files"``, with the domains in the order of ``files``.

    Raises:
        ValueError: if there is no file, one is empty, not UTF-8 or too short to be split, or two have the same content;
            or if the shares leave nothing for training.
        FileNotFoundError: if a path does not name a file.
    """
    if not files:
        raise ValueError("files must name at least one text, got none")
    for option, share in (("validation", validation), ("test", test)):
        if not 0 < share < 1:
            raise ValueError(f"{option} must be in (0, 1), got {share}")
    if validation + test >= 1:
        raise ValueError(f"validation + test must be less than 1, got {validation} + {test}")
    domains: list[TextDomain] = []
    seen: dict[str, Path] = {}
    for name, given in files.items():
        path = Path(given).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; it should be the text of {name!r}")
        text = read_text(path)
        if text in seen:
            raise ValueError(f"files must differ in content, got the same in {seen[text]} and {path}")
        seen[text] = path
        domains.append(TextDomain.from_strings(name, *split_text(text, path, (validation, test))))
    return TextCorpus("files", tuple(domains))


def split_text(text: str, source: object, held_out: Sequence[float]) -> list[str]:
    """Cut parts off the end of a text, by their shares of its bytes, never inside a character.

    Args:
        text: the text.
        source: what a message calls it.
        held_out: shares of the parts after the first one, in their order; not negative, below 1 in all.

    Returns:
        One part more than there are shares: the first is what they leave.

    Raises:
        ValueError: if a part would be empty.
    """
    content = text.encode()
    if not content:
        raise ValueError(f"{source} is empty")
    sizes = [round(share * len(content)) for share in held_out]
    cuts = [_character_start(content, len(content) - sum(sizes[number:])) for number in range(len(sizes))]
    parts = [content[start:stop] for start, stop in pairwise([0, *cuts, len(content)])]
    if not all(parts):
        lengths = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"{source} is too short to be split: its {len(content)} bytes would become parts of {lengths}")
    return [part.decode() for part in parts]


def _character_start(content: bytes, position: int) -> int:
    # The bytes of a character after its first are 0b10xxxxxx.
    while position < len(content) and content[position] & 0xC0 == 0x80:
        position -= 1
    return position


def _bytes(text: str) -> UInt8[Tensor, " bytes"]:
    return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())


def _listed(names: Iterable[str], most: int = 25) -> str:
    known = list(names)
    return ", ".join(known) if len(known) <= most else f"{', '.join(known[:3])} and {len(known) - 3} more"
