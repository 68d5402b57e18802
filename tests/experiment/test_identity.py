import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aleator.experiment import RunOptions
from aleator.experiment.identity import identity, options_of, recipe_from
from aleator.experiment.registry import resolve
from aleator.recipes.classify import Classify
from aleator.version import library_version

RICH = '''
import enum
from dataclasses import dataclass, field
from pathlib import Path

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class Rich:
    """Every kind of option."""

    place: Path | None = None
    widths: tuple[int, ...] = (1,)
    pair: tuple[int, Path] = (0, Path("a"))
    rates: list[float] | None = None
    colour: Colour = Colour.RED
    flag: bool = False

    def task(self, streams, accelerator): ...
'''


def test_options_survive_json_as_their_types(tmp_path):
    (tmp_path / "rich.py").write_text(RICH)
    spec = f"{tmp_path / 'rich.py'}:Rich"
    rich = resolve(spec)
    colour = type(rich().colour)
    recipe = rich(Path("x"), (1, 2), (3, Path("y")), [0.5], colour.BLUE, True)
    assert recipe_from(spec, json.loads(json.dumps(options_of(recipe)))) == recipe
    assert recipe_from(spec, options_of(rich())) == rich()


def test_option_that_json_has_no_word_for_is_named():
    @dataclass(frozen=True)
    class Bad:
        thing: object = object()

    with pytest.raises(ValueError, match="option thing must be a number, text, path or collection of them, got object"):
        options_of(Bad())


def test_unknown_option_is_named():
    with pytest.raises(ValueError, match="recipe 'classify' has no option colour"):
        recipe_from("classify", {"colour": 1})


def test_identity_follows_what_decides_the_numbers_and_nothing_else():
    base = identity("classify", Classify(), RunOptions())
    decisive = [
        identity("classify", Classify(lr=0.06), RunOptions()),
        identity("classify", Classify(), RunOptions(seed=1)),
        identity("classify", Classify(), RunOptions(threads=2)),
        identity("classify", Classify(), RunOptions(evaluate_every=7)),
        identity("classify", Classify(), RunOptions(), size=10),
    ]
    assert len({base, *decisive}) == 6
    harmless = replace(RunOptions(), log_every=1, checkpoint_seconds=1, keep_checkpoints=9, trackers=())
    assert identity("classify", Classify(), harmless) == base


def test_version_between_releases_names_the_source():
    assert library_version().startswith("0.1.0.dev0+")
