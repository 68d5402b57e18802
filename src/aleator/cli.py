"""The door: ``aleator VERB …``.

A verb is a module of `aleator.commands` with ``main(args)`` and ``options()``, imported when it is called. What goes
wrong becomes an exit code and one line on standard error: 2 for bad input, 1 for a run that failed, 130 for an
interruption.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

SUMMARY = "Stochastic training for PyTorch: published methods, drop-in, with evidence."
SHELLS = ("bash", "zsh", "tcsh", "fish")

# For each verb its module in aleator.commands and what it does.
VERBS = {
    "list": ("list", "List the methods, recipes and data sets there are."),
    "run": ("run", "Run one recipe once."),
    "check": ("check", "Say whether a recipe of your own resumes exactly, and which methods it can use."),
    "advise": ("advise", "Find out which methods pay on a task, within an hour, and say so in words that hold."),
    "compare": ("compare", "Compare variants of a recipe over several seeds, with intervals and a report."),
    "report": ("report", "Write the report of a run or a comparison again."),
    "data": ("data_sets", "List, download and check data sets."),
    "curve": ("curve", "Forecast a learning curve from a table of scores."),
    "certify": ("certify", "Bound a model's accuracy on new examples from held-out ones."),
    "prox": ("prox", "Say which weights of a model are exactly zero."),
    "mixture": ("mixture", "Plan a mixture of domains of different size."),
    "probe": ("probe", "Say what the curvature of a task means for its batch and its learning rate."),
    "pairs": ("pairs", "Say how far predictions of pairs of answers can be trusted."),
    "language": ("language", "Say how evenly a language model treats languages."),
    "log": ("log", "Check, replay or describe the log of machines that trained together."),
    "new": ("new", "Write a recipe of your own that runs as it is."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code.

    Args:
        argv: the words after ``aleator``; by default the words of this process.
    """
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # tyro leaves this way after help and completion
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # the reader, such as head, has seen enough; nothing more can be written to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say_of_the_system(error)
    except ValueError as error:
        from aleator.experiment.own_lines import located

        return _say(located(error), 2)
    except MemoryError as error:
        return _say(f"memory ran out: {error}" if str(error) else "memory ran out", 1)
    except ImportError as error:
        if "pip install 'aleator[" not in str(error):
            raise
        return _say(str(error), 2)


def _main(argv: list[str]) -> int:
    if argv and argv[0].replace("_", "-") in ("--tyro-print-completion", "--tyro-write-completion"):
        return _completion(argv)
    if not argv or argv[0] in ("-h", "--help"):
        from aleator.commands.flags import write_help

        write_help(_summaries(), prog="aleator", description=SUMMARY)
        return 0
    if argv[0] == "--version":
        from aleator import __version__

        sys.stdout.write(f"aleator {__version__}\n")
        return 0
    if argv[0] not in VERBS:
        from aleator.commands.flags import unknown

        raise ValueError(unknown("command", argv[0], VERBS))
    return _module(argv[0]).main(argv[1:])  # type: ignore[no-any-return]


def _completion(argv: list[str]) -> int:
    import tyro

    needed = 2 if "print" in argv[0] else 3
    if len(argv) < needed or argv[1] not in SHELLS:
        given = repr(argv[1]) if len(argv) > 1 else "nothing"
        form = f"{argv[0]} SHELL{'' if needed == 2 else ' FILE'}"
        raise ValueError(f"write {form} with SHELL one of {', '.join(SHELLS)}, got {given}")
    tyro.cli(_tree(), args=argv, prog="aleator", description=SUMMARY)
    return 0


def _tree() -> Any:
    """Return all commands with all their options as one type."""
    from aleator.commands.flags import choice

    return choice(_summaries(), lambda verb: _module(verb).options())


def _summaries() -> dict[str, str]:
    return {verb: summary for verb, (_, summary) in VERBS.items()}


def _module(verb: str) -> Any:
    from importlib import import_module

    return import_module(f"aleator.commands.{VERBS[verb][0]}")


def _say(message: str, code: int) -> int:
    from aleator.distributed.addresses import redacted

    text = redacted(message).encode(errors="backslashreplace").decode()
    with contextlib.suppress(OSError):  # where standard error cannot be written, the exit code has to do
        sys.stderr.write(f"aleator: {' '.join(text.split())}\n")
    return code


def _say_of_the_system(error: OSError) -> int:
    from aleator.experiment.files import described

    try:
        sys.stdout.flush()
    except OSError:  # what could not be written there would be tried again, and fail again, at the very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # What was asked for is at fault when a path is, and not when the disk is full or fails.
    asked = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
    wrong_path = isinstance(error, asked) or error.errno in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
    return _say(described(error), 2 if wrong_path else 1)


if __name__ == "__main__":
    sys.exit(main())
