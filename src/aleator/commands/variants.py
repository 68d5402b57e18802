"""The grammar of ``--variant NAME[:FIELD=VALUE,…]`` and ``--tune FIELD=V1,V2``.

The name ends at the first colon. Commas separate fields, except inside brackets and quotes. A value means what it means
behind ``--FIELD``: tyro reads it, with the comparison's base recipe as default. What is written as several words there
stands in brackets here (``hidden=[64,64]``), and a switch is ``flip=True`` or ``flip=False``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aleator.commands import flags
from aleator.experiment.comparison.plan import Variant

_CLOSING = {"[": "]", "(": ")", "{": "}"}


def variants(base: Any, texts: Sequence[str]) -> list[Variant]:
    """Return the variants in the order given.

    Args:
        base: the recipe as the plain flags have set it.
        texts: one ``NAME[:FIELD=VALUE,…]`` for each variant.

    Raises:
        ValueError: if there is none, a name is missing, or a field or value does not fit; the line names the variant.
    """
    if not texts:
        raise ValueError("--variant is missing: a comparison needs at least one --variant NAME[:FIELD=VALUE,…]")
    found = []
    for text in texts:
        name, _, changes = text.partition(":")
        name = name.strip()
        if not name:
            raise ValueError(f"--variant {text!r} has no name, write NAME[:FIELD=VALUE,…]")
        if "=" in name:
            raise ValueError(f"--variant {text!r} has no name before its first field, write NAME:{text}")
        try:
            fields = _fields(type(base), changes)
            words = [word for field, values in fields.items() for word in _words(field, values)]
            recipe = flags.checked(flags.override(base, words))
            found.append(Variant(name, recipe, {field.replace("-", "_"): _value(recipe, field) for field in fields}))
        except ValueError as error:
            raise ValueError(f"variant {name!r}: {error}") from None
    return found


def tuned(base: Any, text: str) -> tuple[str, list[Any]]:
    """Return the field and the values of ``--tune FIELD=V1,V2``.

    Raises:
        ValueError: if the text is not of that form, the field is not one of the recipe's own, or a value does not fit.
    """
    field, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ValueError(f"--tune must be FIELD=V1,V2,…, got {text!r}")
    types = {name: kind for name, kind in flags.field_types(type(base)).items() if "." not in name}
    try:
        name = _known(field, types)
        read = [flags.read(type(base), name, _value_words(types[name], value)) for value in split(values)]
    except ValueError as error:
        raise ValueError(f"--tune: {error}") from None
    return name.replace("-", "_"), read


def split(text: str) -> list[str]:
    """Split at the commas that are outside brackets and quotes.

    Raises:
        ValueError: if a bracket or quote is not closed.
    """
    parts, start, expected, quote = [], 0, [], ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif character in _CLOSING.values():
            if not expected or character != expected.pop():
                raise ValueError(f"unexpected {character!r} in {text!r}")
        elif character == "," and not expected:
            parts.append(text[start:position])
            start = position + 1
    if quote or expected:
        raise ValueError(f"{quote or expected[-1]!r} is missing in {text!r}")
    return [part.strip() for part in [*parts, text[start:]]]


def _fields(kind: type[Any], changes: str) -> dict[str, list[str]]:
    """Read ``FIELD=VALUE,…``: for each field the words that would follow its flag."""
    types = flags.field_types(kind)
    fields: dict[str, list[str]] = {}
    for change in split(changes) if changes.strip() else []:
        field, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} is not FIELD=VALUE")
        name = _known(field, types)
        if name in fields:
            raise ValueError(f"--{name} is given twice")
        fields[name] = _value_words(types[name], value.strip())
    return fields


def _known(field: str, types: dict[str, Any]) -> str:
    name = field.strip().removeprefix("--").replace("_", "-")
    if name not in types:
        raise ValueError(flags.unknown("field", field.strip(), [known.replace("-", "_") for known in sorted(types)]))
    return name


def _value_words(kind: Any, value: str) -> list[str]:
    if flags.is_collection(kind) and value[:1] in ("[", "(") and value[-1:] == _CLOSING[value[0]]:
        inside = value[1:-1].strip()
        return [_unquoted(word) for word in split(inside) if word] if inside else []
    return [_unquoted(value)]


def _words(name: str, values: list[str]) -> list[str]:
    # Behind an equals sign a value is taken as it is, also when it begins with a hyphen.
    return [f"--{name}={values[0]}"] if len(values) == 1 else [f"--{name}", *values]


def _value(recipe: Any, name: str) -> Any:
    for field in name.replace("-", "_").split("."):
        recipe = getattr(recipe, field)
    return recipe


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" else word
