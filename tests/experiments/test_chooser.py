"""The first table: every method has a row, and every command in it is one that the command line takes."""

import shlex

import pytest

from aleator.cli import VERBS
from aleator.commands import flags, run
from aleator.commands.methods import METHODS
from aleator.experiment import registry
from experiments.chooser import WISHES


def test_every_method_is_wished_for_once():
    assert sorted(wish.method for wish in WISHES) == sorted(method.name for method in METHODS)


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish.method)
def test_commands_are_taken(wish):
    program, verb, recipe, *words = shlex.split(wish.command)
    assert (program, verb in VERBS) == ("aleator", True)
    if verb == "run":
        flags.parse(run.parts(registry.resolve(recipe)), words, prog="aleator")
