"""The help of a command with many options: a panel for every method, with text that flows.

`flags.parse` reads options from the dataclasses themselves; what is made here is only looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

import tyro

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT"}


def panels(parts: Mapping[str, type[Any]]) -> type[Any]:
    """Return a dataclass whose help has a panel for each of ``parts``.

    Of the first, the options that come from a class with a ``card``, a method's, have a panel of their own.
    """
    subject, *others = parts.values()
    own, inherited = _by_owner(subject)
    fields: list[Any] = [("own", Annotated[_panel(subject, own, ""), tyro.conf.arg(name="")])]
    for owner, names in inherited.items():
        about = f"{_first_line(owner)} Card: docs/methods/{vars(owner)['card']}.md."
        fields.append(_grouped(owner.__name__, _panel(subject, names, about)))
    for heading, part in zip(list(parts)[1:], others, strict=True):
        names = [field.name for field in dataclasses.fields(part) if field.init]
        fields.append(_grouped(heading, _panel(part, names, inspect.getdoc(part) or "")))
    kind = dataclasses.make_dataclass(subject.__name__, fields)
    kind.__doc__ = subject.__doc__
    return kind


def _grouped(heading: str, panel: type[Any]) -> tuple[str, Any, Any]:
    marked: Any = Annotated[panel, tyro.conf.arg(name=heading), tyro.conf.OmitArgPrefixes]
    return f"panel_{heading}", marked, dataclasses.field(default_factory=panel)


def _by_owner(kind: type[Any]) -> tuple[list[str], dict[type[Any], list[str]]]:
    """Return the names of a class's fields without those of methods, and these by their classes."""
    own: list[str] = []
    inherited: dict[type[Any], list[str]] = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        owner = _owner(kind, field.name)
        (inherited.setdefault(owner, []) if "card" in vars(owner) else own).append(field.name)
    return own, inherited


def _owner(kind: type[Any], name: str) -> type[Any]:
    return next(base for base in kind.__mro__ if name in vars(base).get("__annotations__", {}))


def _panel(kind: type[Any], names: list[str], about: str) -> type[Any]:
    """Return a dataclass of some of a class's fields, with their help as one flowing text."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    shown: list[Any] = []
    for name in names:
        field = fields[name]
        marked: Any = Annotated[hints[name], _told(kind, field, hints[name])]
        shown.append((name, marked, _default(field)))
    made = dataclasses.make_dataclass(kind.__name__, shown, kw_only=True)
    made.__doc__ = about
    return made


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field() if field.default is dataclasses.MISSING else field.default


def _told(kind: type[Any], field: dataclasses.Field[Any], hint: Any) -> object:
    """Return tyro's marker with the text of a field, and with its default unless the text or None says it."""
    words: dict[str, Any] = {}
    if text := _docstrings(_owner(kind, field.name)).get(field.name):
        words["help"] = " ".join(text.split())
    if field.default is None:
        words["help_behavior_hint"] = ""
        if metavar := _metavar(hint):
            words["metavar"] = metavar
    given = [marker for marker in getattr(hint, "__metadata__", ()) if type(marker).__name__ == "_ArgConfig"]
    for marker in given:  # what a field says itself stands
        for name in ("help", "metavar", "help_behavior_hint"):
            if (value := getattr(marker, name)) is not None:
                words[name] = " ".join(value.split()) if name == "help" else value
    return tyro.conf.arg(**words)


def _metavar(hint: Any) -> str | None:
    """Return what stands for the value of an option that may be None, without saying that."""
    plain = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    if typing.get_origin(plain) not in (Union, types.UnionType):
        return None
    members = [member for member in typing.get_args(plain) if member is not type(None)]
    if len(members) != 1:
        return None
    if typing.get_origin(members[0]) is Literal:
        return "{" + ",".join(map(str, typing.get_args(members[0]))) + "}"
    return _METAVARS.get(members[0])


def _first_line(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """Return the strings below the fields of a class, by field."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError):  # a class that was made and not written
        return {}
    found: dict[str, str] = {}
    assert isinstance(body[0], ast.ClassDef)
    for statement, below in zip(body[0].body, body[0].body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[statement.target.id] = below.value.value
    return found
