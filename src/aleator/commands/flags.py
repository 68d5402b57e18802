"""Options from the command line: dataclasses in, values out, and one line when something is wrong.

A command's options are one or more dataclasses; every field is a flag, its docstring is the help. `tyro` parses them
and prints the help. What tyro refuses it explains in a box; here the same words are looked at once more, flag by flag,
to say in one line which flag it was, what it got and what it accepts.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import io
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import tyro

from aleator.experiment.registry import did_you_mean

T = TypeVar("T")

_HELP = ("-h", "--help")
_SWITCHES_TAKE_VALUES = (tyro.conf.FlagConversionOff,)
_COLLECTIONS = (list, tuple, set, frozenset, Sequence, Collection)


def parse(
    parts: Mapping[str, type[Any]],
    args: Sequence[str],
    *,
    prog: str,
    defaults: Sequence[Any] | None = None,
    apart: Mapping[str, type[Any]] | None = None,
) -> list[Any]:
    """Read the flags of several dataclasses from one command line.

    Args:
        parts: the dataclasses and the heading of each in the help. A field of any of them is a plain flag; fields of
            dataclasses nested in the first keep their prefix (``--data.files``).
        args: the words after the command's name. ``--help`` prints the help and leaves with `SystemExit` 0.
        prog: the command's name in the help.
        defaults: one instance for each part, whose values hold where a flag is not given.
        apart: the dataclasses to make instances of, where they are others than those that the help is of.

    Returns:
        One instance for each part, in their order.

    Raises:
        ValueError: if the words do not fit; one line with the flag, what it got and what it accepts.
    """
    kind = together(parts)
    if any(word in _HELP for word in args):
        from aleator.commands.help_panels import panels

        tyro.cli(panels(parts), args=["--help"], prog=prog)
    if apart is not None:
        kind = together(apart)
    try:
        parsed = _quietly(kind, args) if defaults is None else _quietly(kind, args, default=kind(*defaults))
    except _Refused as refusal:
        flags = [flag for part in parts.values() for flag in _flags(part)]
        raise ValueError(_diagnosis(flags, args, refusal)) from None
    found = [getattr(parsed, f"part{i}") for i in range(len(parts))]
    for part in found:
        _check_integers(part)
    return found


def override(base: T, args: Sequence[str]) -> T:
    """Return a copy of a dataclass instance with the fields that ``args`` names changed, as ``--FIELD VALUE`` would.

    A switch takes a value here: ``--flip True``.

    Raises:
        ValueError: as `parse`.
    """
    try:
        changed: T = _quietly(type(base), args, default=base, config=_SWITCHES_TAKE_VALUES)
        _check_integers(changed)
        return changed
    except _Refused as refusal:
        raise ValueError(_diagnosis(list(_flags(type(base))), args, refusal, _SWITCHES_TAKE_VALUES)) from None


def _check_integers(options: Any) -> None:
    """Refuse integers that no tensor can count with; a seed may be any.

    Raises:
        ValueError: naming the field.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if type(value) is int and field.name != "seed" and not -(2**63) <= value < 2**63:
            raise ValueError(f"{field.name} must be below 2**63, got {value}")


def unchecked(kind: type[Any]) -> type[Any]:
    """Return a dataclass with the same fields that accepts every combination of them; see `checked`.

    In a comparison, options that all variants share come before each variant's own, and only together they have to fit.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        if field.init:
            fields.append((field.name, hints[field.name], copy.copy(field)))
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=True, namespace={"checked_by": kind})


def checked(options: Any) -> Any:
    """Return the instance of the dataclass itself, from one of its `unchecked` twin.

    Raises:
        ValueError: if its options do not fit together.
    """
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return options.checked_by(**values) if hasattr(options, "checked_by") else options


def read(kind: type[Any], name: str, words: Sequence[str]) -> Any:
    """Return the value that ``--NAME WORDS…`` gives one field, without building the dataclass.

    Raises:
        ValueError: if there is no such field, or the words are not a value of it.
    """
    known = {flag.name: flag for flag in _flags(kind) if not flag.positional}
    if name not in known:
        raise ValueError(unknown("option", name, sorted(known)))
    try:
        return _single(known[name], words, _SWITCHES_TAKE_VALUES)
    except _Refused:
        raise ValueError(_refused_value(known[name], words)) from None


def together(parts: Mapping[str, type[Any]]) -> type[Any]:
    """Return one dataclass that holds several, for tyro: the first is the subject, the others are groups in its help.

    Raises:
        ValueError: if a name is a field of two of them.
    """
    owner: dict[str, type[Any]] = {}
    for heading, part in parts.items():
        for flag in _flags(part):
            if flag.name in owner:
                field = flag.name.replace("-", "_")
                mine = owner[flag.name].__name__
                raise ValueError(f"{mine} has a field {field!r}, which is also one of the {heading} options; rename it")
            owner[flag.name] = part
    fields: list[Any] = []
    for index, (heading, part) in enumerate(parts.items()):
        # An empty name keeps the prefixes of what is nested deeper, OmitArgPrefixes keeps the heading.
        if index == 0:
            fields.append((f"part{index}", Annotated[part, tyro.conf.arg(name="")]))
        else:
            marked: Any = Annotated[part, tyro.conf.arg(name=heading), tyro.conf.OmitArgPrefixes]
            fields.append((f"part{index}", marked, dataclasses.field(default_factory=part)))
    subject = next(iter(parts.values()))
    kind = dataclasses.make_dataclass(subject.__name__, fields)
    kind.__doc__ = subject.__doc__
    return kind


def choice(summaries: Mapping[str, str], options: Callable[[str], Any] | None = None) -> Any:
    """Return the type by which tyro chooses between subcommands.

    Args:
        summaries: for each name what it does.
        options: the type of a name's options. Completion needs it, a help that lists the names does not.
    """
    arms: list[Any] = []
    for name, summary in summaries.items():
        kind = options(name) if options else dataclasses.make_dataclass("Options", [])
        arms.append(Annotated[kind, tyro.conf.subcommand(name, description=summary)])
    return Union[(*arms, Annotated[None, tyro.conf.Suppress])]  # a union needs two members


def write_help(summaries: Mapping[str, str], *, prog: str, description: str) -> None:
    """Print the help of a command that is followed by one of several names."""
    with contextlib.suppress(SystemExit):
        tyro.cli(choice(summaries), args=["--help"], prog=prog, description=description)


def last_value(args: Sequence[str], name: str) -> str | None:
    """Return the word after the last ``--NAME``, without looking at the others."""
    found = [values for word, values in groups(args) if word == f"--{name}" and values]
    return found[-1][0] if found else None


def without(args: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the words without the flags of these names and their values."""
    kept: list[str] = []
    for word, values in groups(args):
        if word is None or word.removeprefix("--").replace("_", "-") not in names:
            kept += ([] if word is None else [word]) + values
    return kept


def given(args: Sequence[str]) -> set[str]:
    """Return the names of the flags among the words."""
    return {word.removeprefix("--").replace("_", "-") for word, _ in groups(args) if word is not None}


def field_types(kind: type[Any]) -> dict[str, Any]:
    """Return the type of every field that can be set, by its name on the command line (``batch-size``)."""
    return {flag.name: flag.type for flag in _flags(kind)}


def one_of(words: Collection[str]) -> str:
    """Return ``"one of a, b"``, or the only word there is."""
    return f"one of {', '.join(words)}" if len(words) > 1 else "".join(words)


# A recipe with every part has more than fifty options: a line that names them all is not read.
MANY = 16


def unknown(what: str, word: str, known: Collection[str]) -> str:
    """Return the line for a word that is not among the known ones, which it names unless there are many."""
    accepts = f"{what}s: {', '.join(known)}" if known else f"there are no {what}s"
    if len(known) > MANY:
        accepts = f"--help lists all {len(known)} {what}s"
    return f"unknown {what} {word!r}{did_you_mean(word, known)} ({accepts})"


def accepted(kind: Any) -> str:
    """Say in words what a value of a type is: ``"an integer or None"``, ``"one of mlp, cnn"``."""
    plain = _plain(kind)
    origin, inner = typing.get_origin(plain), typing.get_args(plain)
    words = {int: "an integer", float: "a number", str: "text", Path: "a path", bool: "True or False"}
    if plain in words:
        return words[plain]
    if plain is type(None):
        return "None"
    if origin is Literal:
        return one_of([str(value) for value in inner])
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return one_of([member.name for member in plain])
    if origin in (Union, types.UnionType):
        return " or ".join(accepted(member) for member in inner)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return f"{len(inner)} values ({', '.join(accepted(member) for member in inner)})"
    if is_collection(plain):
        return f"any number of values, each {accepted(inner[0])}" if inner else "any number of values"
    return getattr(plain, "__name__", str(plain))


def choices(kind: Any) -> list[str]:
    """Return the words a type lists, of a `Literal` or an `enum.Enum`, also as a member of a union or collection."""
    plain = _plain(kind)
    if typing.get_origin(plain) is Literal:
        return [str(value) for value in typing.get_args(plain)]
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return [member.name for member in plain]
    return [word for member in typing.get_args(plain) for word in choices(member)]


def is_collection(kind: Any) -> bool:
    """Whether values of a type are written as several words: lists, tuples, sets, or one of them and None."""
    plain = _plain(kind)
    if typing.get_origin(plain) in (Union, types.UnionType):
        return any(is_collection(member) for member in typing.get_args(plain))
    return (typing.get_origin(plain) or plain) in _COLLECTIONS


@dataclass(frozen=True)
class _Flag:
    """A field as the command line sees it."""

    name: str  # "batch-size", "data.files"
    type: Any  # with tyro's markers
    required: bool

    @property
    def positional(self) -> bool:
        return tyro.conf.Positional in getattr(self.type, "__metadata__", ())

    @property
    def shown(self) -> str:
        return self.name.upper() if self.positional else f"--{self.name}"

    @property
    def off(self) -> str:
        head, dot, tail = self.name.rpartition(".")
        return f"{head}{dot}no-{tail}"


class _Refused(Exception):
    """What tyro printed before it gave up."""


def _quietly(kind: Any, args: Sequence[str], **settings: Any) -> Any:
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=list(args), **settings)
    except SystemExit as leaving:
        if not leaving.code:
            raise
        # An error raised by the dataclass itself says what is wrong better than tyro's frame around it.
        cause: BaseException | None = leaving
        while cause is not None and not (isinstance(cause, ValueError) and cause.args):
            cause = cause.__context__
        raise _Refused(str(cause) if cause else _without_frame(box.getvalue())) from None


def _without_frame(box: str) -> str:
    lines = [line.strip(" │") for line in box.splitlines() if line.startswith("│")]
    rule = next((i for i, line in enumerate(lines) if set(line) == {"─"}), len(lines))
    return " ".join(lines[:rule])


def _diagnosis(flags: list[_Flag], args: Sequence[str], refusal: _Refused, config: tuple[Any, ...] = ()) -> str:
    """Return the line that says why tyro refused ``args``."""
    named = {flag.name: flag for flag in flags if not flag.positional}
    switches = {} if config else {flag.name: flag for flag in named.values() if _plain(flag.type) is bool}
    switches |= {flag.off: flag for flag in switches.values()}
    positionals = [flag for flag in flags if flag.positional]
    given = set()
    for word, values in groups(args):
        if word is None:
            for value in values:
                if not positionals:
                    return f"unexpected {value!r}: options are written --FIELD VALUE"
                flag = positionals.pop(0)
                given.add(flag.name)
                if not _fits(flag, [value]):
                    return _refused_value(flag, [value])
            continue
        name = word.removeprefix("--").replace("_", "-")
        if name in switches:
            flag = switches[name]
            if values:
                return f"{word} takes no value, got {' '.join(values)!r}: write --{flag.name} or --{flag.off}"
        elif name not in named:
            known = [f"--{known}" for known in sorted(named)]
            return unknown("option", word, known)
        elif not _fits(flag := named[name], values, config):
            return _refused_value(flag, values)
        given.add(flag.name)
    for flag in flags:
        if flag.required and flag.name not in given:
            return f"{flag.shown} is missing: it must be {accepted(flag.type)}"
    return " ".join(str(refusal).split())


def groups(args: Sequence[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Yield each flag with the words that follow it; words before the first flag come with None."""
    word: str | None = None
    values: list[str] = []
    for token in args:
        if token.startswith("--"):
            if word is not None or values:
                yield word, values
            word, equals, value = token.partition("=")
            values = [value] if equals else []
        else:
            values.append(token)
    if word is not None or values:
        yield word, values


def _fits(flag: _Flag, values: Sequence[str], config: tuple[Any, ...] = ()) -> bool:
    try:
        _single(flag, values, config)
    except _Refused:
        return False
    return True


def _single(flag: _Flag, values: Sequence[str], config: tuple[Any, ...]) -> Any:
    single = dataclasses.make_dataclass("Single", [("value", flag.type)])
    # A value that begins with a hyphen is taken as it is only behind an equals sign.
    words = [f"--value={values[0]}"] if len(values) == 1 else ["--value", *values]
    return _quietly(single, list(values) if flag.positional else words, config=config).value


def _refused_value(flag: _Flag, values: Sequence[str]) -> str:
    got = repr(" ".join(values)) if values else "nothing"
    hint = next((hint for value in values if (hint := did_you_mean(value, choices(flag.type)))), "")
    return f"{flag.shown} must be {accepted(flag.type)}, got {got}{hint}"


def _flags(kind: type[Any], prefix: str = "") -> Iterator[_Flag]:
    types_of = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not field.init or tyro.conf.Suppress in getattr(types_of[field.name], "__metadata__", ()):
            continue
        name = prefix + field.name.replace("_", "-")
        nested = _plain(types_of[field.name])
        if dataclasses.is_dataclass(nested) and isinstance(nested, type):
            yield from _flags(nested, f"{name}.")
        else:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield _Flag(name, types_of[field.name], required)


def _plain(kind: Any) -> Any:
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind
