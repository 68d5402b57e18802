"""``aleator language fairness``: the table, and one line for what is wrong."""

import pytest

from aleator.cli import main
from aleator.language import DynamicPoolingLM
from aleator.random import Streams

LINES = {"en": "All human beings\nare born free\n", "ru": "Все люди рождаются\nсвободными и равными\n"}


@pytest.fixture
def folder(tmp_path):
    """A saved model, which knows ``en`` and ``cyrl``, and parallel files."""
    with Streams(0).scope("init"):
        model = DynamicPoolingLM(
            rate=0.2, names=["en", "cyrl"], layers=(1, 1, 1), d_model=16, n_heads=2, d_head=4, d_inner=24
        )
    model.save(tmp_path / "model")
    for name, text in LINES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def words(folder, *more):
    return ["language", "fairness", str(folder / "model"), f"en={folder}/en", f"ru:cyrl={folder}/ru", *more]


def test_a_row_for_each_language_and_a_line_for_all(folder, capsys):
    assert main(words(folder)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("relative to en")
    assert [line.split()[0] for line in lines[1:4]] == ["language", "en", "ru"]
    assert lines[2].split()[1:4:2] == ["29", "1.000"]
    assert lines[-1].startswith("most / fewest segments 2.")


def test_the_same_seed_gives_the_same_table(folder, capsys):
    tables = []
    for seed in ("3", "3", "4"):
        assert main(words(folder, "--seed", seed, "--anchor", "ru")) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != tables[2]
    assert "relative to ru" in tables[0]


def run_of(folder, recipe, *options):
    """A finished run of a recipe, on the files where it learns from texts."""
    long = {name: folder / f"long-{name}" for name in LINES}
    for name, path in long.items():
        path.write_text(40 * LINES[name], encoding="utf-8")
    texts = ("--files", *(f"{name}={path}" for name, path in long.items()), "--width", "16", "--heads", "2")
    small = (*texts, "--context", "24", "--steps", "2", "--eval-bytes", "200") if recipe == "language" else ()
    assert main(["run", recipe, *small, *options, "--trackers", "--out", str(folder / "run")]) == 0
    return [str(folder / "run"), f"en={folder}/en", f"uk={folder}/ru"]


@pytest.mark.parametrize(
    ("tokenization", "rates"), [("bytes", (1, 1)), ("bpe", None), ("dtp", (0.2, 0.2)), ("magnet", (0.2, 0.1))]
)
def test_a_run_of_the_recipe_is_a_model_that_knows_its_scripts(folder, capsys, tokenization, rates):
    words = run_of(folder, "language", "--tokenization", tokenization)
    capsys.readouterr()
    assert main(["language", "fairness", *words]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:4]]
    # A language that the run did not have is known by its letters.
    assert [row[0] for row in rows] == ["en", "uk"]
    sizes = [len(text.replace("\n", "").encode()) for text in LINES.values()]
    assert [int(row[1]) for row in rows] == sizes
    segments = [float(row[2]) for row in rows]
    if rates:  # predictors begin at their rates
        assert segments == pytest.approx([rate * size for rate, size in zip(rates, sizes, strict=True)], rel=0.25)
    else:
        assert all(1 < found < size for found, size in zip(segments, sizes, strict=True))
    bits = [float(row[5]) for row in rows]
    assert all(0 < found < 12 for found in bits)
    # Lines longer than a window of the run are cut there.
    assert main(["language", "fairness", *words, "--window", "25"]) == 0
    assert [float(line.split()[5]) for line in capsys.readouterr().out.splitlines()[2:4]] == bits


@pytest.mark.plain
def test_a_run_of_another_recipe_is_refused(folder, capsys):
    words = run_of(folder, "gates", "--rounds", "1", "--train-size", "64")
    capsys.readouterr()
    assert main(["language", "fairness", *words]) == 2
    assert "MODEL must be a run of the recipe language, got one of gates" in capsys.readouterr().err
    (folder / "run" / "result.json").unlink()
    assert main(["language", "fairness", *words]) == 2
    assert "there is no finished run in" in capsys.readouterr().err


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:3], "files must be given as LANG=FILE"),
        (lambda w: [*w, "uk"], "files must be given as LANG=FILE or LANG:SCRIPT=FILE, got 'uk'"),
        (lambda w: [*w, w[3]], "each language must have one file, got 'en' twice"),
        (lambda w: [*w, "uk=/nowhere"], "/nowhere"),
        (lambda w: [*w[:4], w[4].replace("ru:cyrl", "ru")], "script must be one of en, cyrl, got 'ru'"),
        (lambda w: [*w, "--anchor", "fr"], "anchor must be one of en, ru, got 'fr'"),
        (lambda w: [*w, "--window", "0"], "window must be at least 1, got 0"),
        (lambda w: [*w[:2], "/nowhere", *w[3:]], "/nowhere holds no saved model"),
        (lambda w: w[:1], "a verb is missing"),
        (lambda w: ["language", "fairnes"], "unknown verb 'fairnes'; did you mean 'fairness'? (verbs: fairness)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, capsys, change, message):
    assert main(change(words(folder))) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_lists_the_verb(capsys):
    assert main(["language", "--help"]) == 0
    assert "fairness" in capsys.readouterr().out
