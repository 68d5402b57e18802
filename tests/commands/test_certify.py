"""``aleator certify``: the library's bound in a line, a table of models, one line when something is wrong."""

import re

import pytest

from aleator.cli import main
from aleator.stats import accuracy_bound, difference_bound, loss_bound, mcnemar


def said(capsys, *args: str) -> str:
    assert main(["certify", *args]) == 0
    return capsys.readouterr().out


def refused(capsys, *args: str) -> str:
    assert main(["certify", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.strip().removeprefix("aleator: ")


def test_counts_give_the_headline(capsys):
    out = said(capsys, "--correct", "9500", "--n", "10000", "--delta", "0.05")
    assert out.startswith("accuracy on new examples: at least 0.94626 (clopper_pearson)\n")
    assert "9500 right answers among 10000 examples; wrong with probability at most 0.05, if" in out


@pytest.mark.parametrize("side", ["lower", "upper", "both"])
def test_printed_bounds_are_rounded_so_that_they_still_hold(capsys, side):
    out = said(capsys, "--correct", "347", "--n", "360", "--side", side, "--candidates", "3", "--method", "kl")
    bound = accuracy_bound(347, 360, 0.05, "kl", side, 3).bound
    numbers = [float(number) for number in re.findall(r"0\.\d{5}", out.splitlines()[0])]
    ends = bound if isinstance(bound, tuple) else (bound,)
    for number, end, sign in zip(numbers, ends, {"lower": [-1], "upper": [1], "both": [-1, 1]}[side], strict=True):
        assert 0 <= sign * (number - end) <= 1e-5


def test_a_table_of_right_and_wrong_pays_for_every_model_and_compares_with_the_first(tmp_path, capsys):
    base = [1] * 90 + [0] * 10
    new = [0] * 2 + [1] * 94 + [0] * 4
    path = tmp_path / "scores.csv"
    path.write_text("base,new\n" + "".join(f"{a},{b}\n" for a, b in zip(base, new, strict=True)))
    lines = said(capsys, "--scores", str(path)).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line[:4] in ("base", "new ")}
    first = accuracy_bound(90, 100, 0.05, candidates=2).bound
    assert float(rows["base"][2]) == pytest.approx(first, abs=1e-5)
    low, high = difference_bound(new, base, 0.05).bound
    assert (rows["new"][1], rows["new"][-1]) == ("+0.0400", f"{mcnemar(6, 2):.3g}")
    printed = [float(word.strip("[],")) for word in rows["new"][2:4]]
    assert 0 <= low - printed[0] <= 1e-5
    assert 0 <= printed[1] - high <= 1e-5
    assert lines[-1].startswith("each table is wrong with probability at most 0.05 for all 2 candidates at once, if")


@pytest.mark.parametrize(
    ("heading", "name"), [("", "{}"), ("example", "{}"), ("sentence", "s-{}")], ids=["pandas", "numbers", "names"]
)
def test_names_of_the_examples_are_no_model(tmp_path, capsys, heading, name):
    path = tmp_path / "scores.csv"
    rows = [(int(i % 5 > 0), int(i % 3 > 0)) for i in range(30)]
    path.write_text("base,new\n" + "".join(f"{a},{b}\n" for a, b in rows))
    plain = said(capsys, "--scores", str(path))
    named = "".join(f"{name.format(i)},{a},{b}\n" for i, (a, b) in enumerate(rows))
    path.write_text(f"{heading},base,new\n{named}")
    assert said(capsys, "--scores", str(path)) == plain


def test_one_example_of_two_models_is_refused_before_a_table_is_written(tmp_path, capsys):
    path = tmp_path / "scores.csv"
    path.write_text("base,new\n1,0\n")
    assert "at least 2 examples, got 1" in refused(capsys, "--scores", str(path))


def test_p_values_of_several_models_are_adjusted(tmp_path, capsys):
    columns = {"base": [0] * 20 + [1] * 80, "a": [1] * 8 + [0] * 12 + [1] * 80, "b": [1] * 6 + [0] * 14 + [1] * 80}
    path = tmp_path / "scores.tsv"
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines))
    rows = said(capsys, "--scores", str(path)).splitlines()[-4:-2]
    assert [row.split()[-1] for row in rows] == [f"{2 * mcnemar(8, 0):.3g}", f"{mcnemar(6, 0):.3g}"]


def test_a_table_of_losses_is_bounded_from_above(tmp_path, capsys):
    values = [i / 1000 for i in range(100)]
    path = tmp_path / "losses.csv"
    path.write_text("model\n" + "".join(f"{value}\n" for value in values))
    out = said(capsys, "--scores", str(path))
    assert out.startswith("mean loss on new examples, from 100 examples of losses.csv\n")
    printed = float(out.splitlines()[2].split()[2])
    assert 0 <= printed - loss_bound(values, 0.05).bound <= 1e-5


@pytest.mark.plain
def test_refuses_in_one_line(tmp_path, capsys):
    assert refused(capsys) == "give either --correct and --n or --scores FILE, got neither"
    assert refused(capsys, "--correct", "1", "--scores", "x").endswith("got both")
    assert refused(capsys, "--correct", "5") == "--correct and --n belong together, --n is missing"
    assert refused(capsys, "--correct", "5", "--n", "4") == "correct must be a whole number in [0, 4], got 5"
    assert refused(capsys, "--correct", "5", "--n", "9", "--delta", "1") == "delta must be in (0, 1), got 1.0"
    assert refused(capsys, "--correct", "0.9", "--n", "9").startswith("--correct must be an integer")
    assert "used for choosing" in refused(capsys, "--correct", "5", "--n", "9", "--used-for-choosing")
    said_of_candidates = said(capsys, "--correct", "5", "--n", "9", "--used-for-choosing", "--candidates", "4")
    assert "one of 4 models was chosen" in said_of_candidates


@pytest.mark.plain
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the names of the models in its first line and a line for each example"),
        ("a\n", "must have the names of the models in its first line and a line for each example"),
        ("1\n0\n", ", line 1: must be the names of the models, all different, got ['1']"),
        ("a,a\n1,0\n", ", line 1: must be the names of the models, all different, got ['a', 'a']"),
        ("a,b\n1,0\n\n1\n", ", line 4: must have 2 cells, one a model, got 1"),
        ("id,a\n7,1\n", ", line 2: id must be a number in [0, 1], got '7'"),
        ("a\n1\nnan\n", ", line 3: a must be a number in [0, 1], got 'nan'"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_line(text, message, tmp_path, capsys):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    assert refused(capsys, "--scores", str(path)).endswith(message)
