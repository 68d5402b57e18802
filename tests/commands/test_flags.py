"""Claims about reading options: what tyro accepts arrives, what it refuses becomes one line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import tyro

from aleator.commands import flags


@dataclass(frozen=True)
class Files:
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Fit something.

    In detail.
    """

    model: Literal["mlp", "cnn"] = "mlp"
    """The network."""
    batch_size: int = 32
    lr: float = 0.1
    size: int | None = None
    hidden: tuple[int, ...] = (64, 64)
    pair: tuple[int, float] = (1, 2.0)
    stretch: float | Literal["auto"] = "auto"
    flip: bool = False
    data: Files = field(default_factory=Files)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")


@dataclass(frozen=True)
class Run:
    """How to run it."""

    seed: int = 0
    """The seed."""
    out: Path | None = None


@dataclass(frozen=True)
class Words:
    folder: Annotated[Path, tyro.conf.Positional]
    kind: tyro.conf.Positional[Literal["all", "some"]] = "all"
    steps: int = field(kw_only=True)


def parsed(*args: str) -> list:
    return flags.parse({"recipe": Recipe, "run": Run}, args, prog="aleator run toy")


def refusal(*args: str) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parsed(*args)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_options_of_several_dataclasses_are_plain_flags():
    recipe, run = parsed("--batch-size", "64", "--seed", "3", "--out", "a/b", "--lr=0.5")
    assert recipe == Recipe(batch_size=64, lr=0.5)
    assert run == Run(seed=3, out=Path("a/b"))


def test_hyphens_and_underscores_are_the_same():
    assert parsed("--batch_size", "64") == parsed("--batch-size", "64")


def test_nested_fields_keep_their_prefix():
    assert parsed("--data.files", "en=a.txt", "ro=b.txt")[0].data.files == ("en=a.txt", "ro=b.txt")


def test_values_that_begin_with_a_hyphen_and_several_words():
    recipe = parsed("--size", "-1", "--hidden", "1", "2", "3", "--flip")[0]
    assert (recipe.size, recipe.hidden, recipe.flip) == (-1, (1, 2, 3), True)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--lr", "x"), "--lr must be a number, got 'x'"),
        (("--lr",), "--lr must be a number, got nothing"),
        (("--lr", "1", "2"), "--lr must be a number, got '1 2'"),
        (("--lr", "0"), "lr must be positive, got 0.0"),
        (("--batch_size", "1.5"), "--batch_size must be an integer, got '1.5'"),
        (("--model", "cn"), "--model must be one of mlp, cnn, got 'cn'; did you mean 'cnn'?"),
        (("--size", "big"), "--size must be an integer or None, got 'big'"),
        (("--hidden", "a", "1"), "--hidden must be any number of values, each an integer, got 'a 1'"),
        (("--pair", "1"), "--pair must be 2 values (an integer, a number), got '1'"),
        (("--stretch", "aut"), "--stretch must be a number or auto, got 'aut'; did you mean 'auto'?"),
        (("--flip", "yes"), "--flip takes no value, got 'yes': write --flip or --no-flip"),
        (("--no-flip", "yes"), "--no-flip takes no value, got 'yes': write --flip or --no-flip"),
        (("stray",), "unexpected 'stray': options are written --FIELD VALUE"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_accepted(args, line):
    assert refusal(*args) == line.replace("--batch_size", "--batch-size")


def test_an_unknown_option_is_named_with_the_closest_and_all_others():
    line = refusal("--batchsize", "3")
    assert line.startswith("unknown option '--batchsize'; did you mean '--batch-size'? (options: ")
    assert "--data.files" in line
    assert "--seed" in line


def test_of_many_options_the_closest_is_named_and_where_the_others_are():
    names = [f"--option-{number}" for number in range(20)]
    assert flags.unknown("option", "--optin-3", names) == (
        "unknown option '--optin-3'; did you mean '--option-3'? (--help lists all 20 options)"
    )


def test_positionals_and_what_is_missing():
    assert flags.parse({"words": Words}, ["a", "some", "--steps", "3"], prog="x") == [Words(Path("a"), "some", steps=3)]
    for args, line in (
        ([], "FOLDER is missing: it must be a path"),
        (["a"], "--steps is missing: it must be an integer"),
        (["a", "sme", "--steps", "1"], "KIND must be one of all, some, got 'sme'; did you mean 'some'?"),
        (["a", "all", "b", "--steps", "1"], "unexpected 'b': options are written --FIELD VALUE"),
    ):
        with pytest.raises(ValueError, match=r"\S") as caught:
            flags.parse({"words": Words}, args, prog="x")
        assert str(caught.value) == line


def test_integers_beyond_those_of_tensors_are_refused_by_field():
    with pytest.raises(ValueError, match=r"^batch_size must be below 2\*\*63, got 99999999999999999999$"):
        parsed("--batch-size", "99999999999999999999")
    with pytest.raises(ValueError, match="batch_size must be below"):
        flags.override(Recipe(), ["--batch-size", "-99999999999999999999"])
    assert parsed("--seed", "99999999999999999999")[1].seed == 99999999999999999999


def test_a_field_of_two_dataclasses_is_refused():
    @dataclass(frozen=True)
    class Clash:
        seed: int = 1

    with pytest.raises(ValueError, match="Clash has a field 'seed', which is also one of the run options"):
        flags.parse({"recipe": Clash, "run": Run}, [], prog="x")


@dataclass(frozen=True)
class Method:
    """What it does."""

    card: ClassVar[str] = "it"

    gain: float | None = None
    """How much, by default two;
    written over two lines."""


@dataclass(frozen=True)
class WithMethod(Method):
    """Fit with a method."""

    width: int = 3
    """Units."""


def test_help_is_grouped_and_shows_defaults_and_choices(capsys):
    with pytest.raises(SystemExit) as leaving:
        parsed("--model", "cnn", "--help")
    assert not leaving.value.code
    text = capsys.readouterr().out
    for expected in ("Fit something.", "run options", "How to run it.", "{mlp,cnn}", "The network.", "(default: mlp)"):
        assert expected in text


def test_a_method_has_a_panel_and_text_flows(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        flags.parse({"recipe": WithMethod, "run": Run}, ["--help"], prog="x")
    said = " ".join(capsys.readouterr().out.translate(str.maketrans("│╭╮╰╯─|+-", "         ")).split())
    assert "Method options What it does. Card: docs/methods/it.md." in said
    assert "gain FLOAT How much, by default two; written over two lines." in said  # flows, and has one default
    assert said.index("width INT Units. (default: 3)") < said.index("Method options") < said.index("run options")


def test_override_changes_only_what_is_named():
    base = Recipe(lr=0.5)
    assert flags.override(base, ["--batch-size", "2", "--flip", "True"]) == Recipe(lr=0.5, batch_size=2, flip=True)
    assert flags.override(base, []) == base


def test_completion_knows_every_flag(capsys):
    kind = flags.choice({"toy": "Fit."}, lambda name: flags.together({"recipe": Recipe, "run": Run}))
    with pytest.raises(SystemExit):
        tyro.cli(kind, args=["--tyro-print-completion", "bash"], prog="aleator")
    script = capsys.readouterr().out
    assert all(flag in script for flag in ("toy", "--batch-size", "--data.files", "--seed"))
