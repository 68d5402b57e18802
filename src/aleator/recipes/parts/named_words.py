"""Options made of words NAME=VALUE, as ``--files en=a.txt fi=b.txt``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def named_words(option: str, words: Sequence[str], form: str) -> dict[str, str]:
    """Return the values by their names.

    Args:
        option: what a message calls the option.
        words: of the form NAME=VALUE.
        form: how a message writes that form.

    Raises:
        ValueError: if one has no name or no value, or two have the same name.
    """
    pairs = [word.partition("=")[::2] for word in words]
    for word, (name, value) in zip(words, pairs, strict=True):
        if not name or not value:
            raise ValueError(f"{option} must be written {form}, got {word!r}")
    check_distinct(option, [name for name, _ in pairs])
    return dict(pairs)


def check_distinct(option: str, names: Sequence[str]) -> None:
    """Raise ValueError if a name is there twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{option} must have distinct names, got {name!r} {count} times")
