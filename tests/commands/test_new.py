"""Claims about the recipe that ``aleator new`` writes: it runs as it is, and everything works with it."""

import json
import random
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from aleator.cli import main


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mine(capsys) -> list[str]:
    """The commands that ``aleator new mine.py`` says to try next."""
    assert main(["new", "mine.py"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[0] == "wrote mine.py; try"
    return [line.strip() for line in lines[1:]]


def assert_its_commands_are_taken(said: str) -> None:
    """What a starter says to try next fits its options; nothing is trained."""
    words = [shlex.split(line)[1:] for line in said.splitlines() if line.strip().startswith("aleator ")]
    assert {each[0] for each in words} >= {"compare", "advise"}
    for each in words:
        more = ["--dry-run"] if each[0] == "compare" else ["--help"]
        assert main([*each, *more]) == 0


def test_the_commands_it_prints_work(mine, capsys):
    run, compare, advise = (shlex.split(command)[1:] for command in mine)
    assert main([*advise, "--help"]) == 0
    assert "--minutes" in capsys.readouterr().out
    assert main([*run, "--out", "run"]) == 0
    assert json.loads(Path("run/result.json").read_text())["test"]["accuracy"] > 0.9
    assert main([*compare, "--seeds", "1", "--rounds", "2", "--out", "compared"]) == 0
    assert "report: compared/report.html" in capsys.readouterr().out


INTERRUPTED = """

import itertools
import signal

STEPS = itertools.count()


class Interrupted(MyRecipe):
    def augmented(self, x, y, generator):
        if next(STEPS) == 30:
            signal.raise_signal(signal.SIGINT)
        return x, y
"""


def test_it_is_resumed_bit_for_bit_after_an_interruption(mine):
    # Interrupted in the middle of its third pass, by its own hand so that the place is known.
    Path("killed.py").write_text(Path("mine.py").read_text() + INTERRUPTED)
    assert main(["run", "killed.py:Interrupted", "--rounds", "4", "--out", "killed"]) == 130
    assert main(["run", "killed.py:Interrupted", "--rounds", "4", "--out", "killed", "--resume"]) == 0
    assert main(["run", "mine.py:MyRecipe", "--rounds", "4", "--out", "whole"]) == 0
    assert Path("killed/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    killed, whole = (json.loads(Path(folder, "result.json").read_text()) for folder in ("killed", "whole"))
    assert killed["test"] == whole["test"]
    assert killed["progress"] == whole["progress"] == 4 * (400 // 32)


def test_sizes_are_compared_with_it(mine):
    command = "compare mine.py:MyRecipe --variant all --sizes 50 100 --seeds 1 --rounds 1 --out o"
    assert main(command.split()) == 0
    assert json.loads(Path("o/comparison.json").read_text())["sizes"] == [50, 100]


def test_its_own_bad_options_are_one_line(mine, capsys):
    assert main(["run", "mine.py:MyRecipe", "--train-size", "500", "--out", "o"]) == 2
    assert capsys.readouterr().err == "aleator: train_size must be at most 398, got 500\n"


def test_a_file_that_exists_is_left_alone(capsys):
    Path("mine.py").write_text("my thesis")
    assert main(["new", "mine.py"]) == 2
    assert capsys.readouterr().err == "aleator: 'mine.py' exists already and is left alone; choose another name\n"
    assert Path("mine.py").read_text() == "my thesis"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mine.txt", "FILE must end in .py, got 'mine.txt'"),
        ("nowhere/mine.py", "FILE must be in a folder that exists, got 'nowhere/mine.py'"),
    ],
)
def test_a_name_that_cannot_be(name, line, capsys):
    assert main(["new", name]) == 2
    assert capsys.readouterr().err == f"aleator: {line}\n"


def test_it_has_at_most_40_lines(mine):
    assert len(Path("mine.py").read_text().splitlines()) <= 40


def test_the_commands_in_the_file_name_the_file(mine):
    text = Path("mine.py").read_text()
    assert len(re.findall(r"aleator (?:run|compare|advise) mine\.py:MyRecipe", text)) == 3
    assert "FILE" not in text


def test_a_column_that_is_constant_in_the_training_part_does_not_spoil_the_others(mine):
    """0.1 in every training example, and 0.2 in half of the others."""
    text = Path("mine.py").read_text()
    loaded = "        x, y = (torch.tensor(column) for column in load_breast_cancer(return_X_y=True))\n"
    ordered = "        train, validation, test = order.tensor_split("
    assert loaded in text
    assert ordered in text
    constant = "        x = torch.cat([x, torch.full((len(x), 1), 0.1)], 1)\n"
    elsewhere = "        x[order[int(0.7 * len(x)) :: 2], -1] = 0.2\n"
    Path("constant.py").write_text(text.replace(loaded, loaded + constant).replace(ordered, elsewhere + ordered))
    assert main(["run", "constant.py:MyRecipe", "--rounds", "5", "--out", "run"]) == 0
    assert json.loads(Path("run/result.json").read_text())["test"]["accuracy"] > 0.9


def test_a_table_of_ones_own_is_learned_as_it_is(capsys):
    draw = random.Random(0)
    rows = []
    for number in range(200):
        size, colour = draw.gauss(0, 1), draw.choice(["red", "blue", ""])
        price = 3 * size + {"red": 2, "blue": -1, "": 0}[colour]
        rows.append(f"{number % 2};{size:.3f};{colour};7;{price + 100:.3f}".replace(".", ","))
    Path("houses.csv").write_text("\n".join(["odd;size;colour;seven;price", *rows]) + "\n")
    assert main(["new", "mine.py", "--csv", "houses.csv", "--target", "price"]) == 0
    said = capsys.readouterr()
    assert "price is a number" in said.err
    assert_its_commands_are_taken(said.out)
    assert len(Path("mine.py").read_text().splitlines()) <= 40
    assert main(["run", "mine.py:MyRecipe", "--rounds", "20", "--out", "o", "--trackers"]) == 0
    assert json.loads(Path("o/result.json").read_text())["test"]["loss"] < 0.05
    assert main(["new", "other.py", "--csv", "houses.csv", "--target", "colour"]) == 0
    assert main(["run", "other.py:MyRecipe", "--rounds", "20", "--out", "p", "--trackers"]) == 0
    assert json.loads(Path("p/result.json").read_text())["test"]["accuracy"] > 0.8


def test_a_table_of_few_rows_is_compared_as_it_is_and_from_a_file_with_any_name(capsys):
    rows = [f"{i * i % 11},{i % 7 % 2}" for i in range(40)]
    Path("few.csv").write_text("\n".join(["a,y", *rows]) + "\n")
    assert main(["new", "my own.py", "--csv", "few.csv", "--target", "y"]) == 0
    assert "    batch_size: int = 8\n" in Path("my own.py").read_text()
    assert len(Path("my own.py").read_text().splitlines()) <= 40
    said = capsys.readouterr().out
    assert_its_commands_are_taken(said)
    compare = next(shlex.split(line)[1:] for line in said.splitlines() if line.startswith("    aleator compare"))
    assert main([*compare[:-2], "--seeds", "1", "--rounds", "1", "--out", "o"]) == 0


def test_texts_that_a_linear_model_separates_are_separated(capsys):
    draw = random.Random(0)
    Path("texts").mkdir()
    for name, words in (("good", "lovely great fine superb"), ("bad", "awful dull poor weak")):
        filler = ["the", "film", "was", "one", "with", "plot", "seen"]
        lines = [" ".join([draw.choice(words.split()), *draw.choices(filler, k=6)]) for _ in range(300)]
        Path(f"texts/{name}.txt").write_text("\n".join(lines))
    assert main(["new", "mine.py", "--text", "texts"]) == 0
    assert_its_commands_are_taken(capsys.readouterr().out)
    assert main(["run", "mine.py:MyRecipe", "--rounds", "20", "--out", "o", "--trackers"]) == 0
    assert json.loads(Path("o/result.json").read_text())["test"]["accuracy"] == 1


def test_images_of_ones_own_are_learned(capsys):
    for name, grey in (("dark", 40), ("light", 200)):
        Path("images", name).mkdir(parents=True)
        for number in range(30):
            Image.new("L", (20 + number, 30), grey + number).save(Path("images", name, f"{number}.png"))
    assert main(["new", "mine.py", "--images", "images"]) == 0
    assert_its_commands_are_taken(capsys.readouterr().out)
    assert main(["run", "mine.py:MyRecipe", "--rounds", "5", "--out", "o", "--trackers"]) == 0
    assert json.loads(Path("o/result.json").read_text())["test"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--csv a.csv --text b", "give one of csv, text and images, got csv and text"),
        ("--csv a.csv", "csv and target must be given together, got csv alone"),
        ("--target y", "csv and target must be given together, got target alone"),
        ("--csv a.csv --target y", "FILE must be a table, got a.csv, which is not there"),
        ("--images nowhere", "there is no folder nowhere"),
    ],
)
def test_data_that_cannot_be_read_leave_no_file(words, line, capsys):
    assert main(["new", "mine.py", *words.split()]) == 2
    assert capsys.readouterr().err == f"aleator: {line}\n"
    assert not Path("mine.py").exists()
