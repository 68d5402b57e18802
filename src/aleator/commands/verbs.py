"""Commands that have verbs, each with options of its own: ``aleator data fetch …``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aleator.commands import flags

Verbs = Mapping[str, type[Any]]
"""The options of each verb; what it does is their docstring."""


def options(verbs: Verbs) -> Any:
    """Return the type of a command's options, for completion."""
    return flags.choice(_summaries(verbs), lambda verb: flags.together({verb: verbs[verb]}))


def chosen(command: str, verbs: Verbs, args: Sequence[str], description: str) -> tuple[str, Any] | None:
    """Return the verb of a command line and its options; None where help was asked for, which is written.

    Args:
        command: its name, behind ``aleator``.
        verbs: that it has.
        args: the words after its name.
        description: of the command, for its help.

    Raises:
        ValueError: if there is no verb, or an unknown one, or its options do not fit.
    """
    if not args:
        raise ValueError(f"a verb is missing, write aleator {command} VERB (verbs: {', '.join(verbs)})")
    verb, *words = args
    if verb in ("-h", "--help"):
        flags.write_help(_summaries(verbs), prog=f"aleator {command}", description=description)
        return None
    if verb not in verbs:
        raise ValueError(flags.unknown("verb", verb, verbs))
    (read,) = flags.parse({verb: verbs[verb]}, words, prog=f"aleator {command} {verb}")
    return verb, read


def _summaries(verbs: Verbs) -> dict[str, str]:
    return {verb: str(kind.__doc__) for verb, kind in verbs.items()}
