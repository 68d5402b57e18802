"""``aleator pairs calibrate|score``: what they read, what they say, and what they refuse in one line."""

import re

import numpy as np
import pytest
import torch

from aleator.cli import main
from aleator.nn import PairDistribution
from aleator.random import Streams
from aleator.stats import conservative_factor, ece1, ece2, signed_gap
from tests.stats.pairs.six_inputs import GROUP, ROWS, joint

HEADER = "p,V,y1,y2"


def rows(items: int = 400) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    true = rng.random(items)
    p = np.clip(true + rng.normal(0, 0.1, items), 0, 1).round(4)
    y1, y2 = ((rng.random(items) < true).astype(int) for _ in range(2))
    return p, np.full(items, 0.01), y1, y2


def text(columns=None, header: str = HEADER) -> str:
    lines = (",".join(f"{value:g}" for value in row) for row in zip(*(columns or rows()), strict=True))
    return "\n".join([header, *lines]) + "\n"


@pytest.fixture
def pairs(tmp_path, monkeypatch, capsys):
    """Run a verb on a text or on arrays; returns exit code, output and the line on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, content, *more: str) -> tuple[int, str, str]:
        if isinstance(content, dict):
            name = "f.npz"
            np.savez(tmp_path / name, **content)
        else:
            name = "f.csv"
            (tmp_path / name).write_text(content)
        code = main(["pairs", verb, name, *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.removeprefix("aleator: ").strip()

    return run


def fact(out: str, name: str) -> str:
    return re.search(rf"^{re.escape(name)}  +(.*)$", out, flags=re.MULTILINE)[1]


def test_scores_are_those_of_the_library(pairs):
    code, out, err = pairs("score", text())
    assert (code, err) == (0, "")
    p, V, y1, y2 = (torch.tensor(column) for column in rows())
    assert float(fact(out, "ECE-1")) == pytest.approx(ece1(p, (y1 + y2) / 2), abs=1e-4)
    assert float(fact(out, "ECE-2")) == pytest.approx(ece2(p, V, pairs=(y1, y2)), abs=1e-4)
    assert float(fact(out, "signed gap").split(",")[0]) == pytest.approx(signed_gap(p, V, pairs=(y1, y2)), abs=1e-4)


@pytest.mark.parametrize("method", ["bernstein", "hoeffding", "betting"])
def test_the_factor_is_that_of_the_library(pairs, method):
    code, out, err = pairs("calibrate", text(), "--method", method, "--alpha", "0.1", "--eps", "0.01")
    assert (code, err) == (0, "")
    p, V, y1, y2 = (torch.tensor(column) for column in rows())
    exact = conservative_factor(p, V, y1, y2, 0.01, 0.1, method)
    assert float(fact(out, "factor gamma")) == pytest.approx(exact, rel=1e-3)
    assert "for at most 10 % of fresh inputs" in fact(out, "misses")


@pytest.mark.parametrize(
    "content",
    [
        text().replace(",", ";"),
        text().replace(",", "\t"),
        "\ufeff" + text().replace("\n", "\r\n\r\n"),
        text().replace(",", ";").replace(".", ","),
        "Predictions of May\n\n" + text(),
        text((rows()[2], rows()[0], rows()[3], rows()[1]), "y1,p,y2,v"),
    ],
    ids=["semicolons", "tabs", "a spreadsheet's", "decimal commas", "a title", "another order"],
)
def test_the_same_rows_in_other_clothes(pairs, content):
    assert pairs("score", content) == pairs("score", text())


def arrays(**changed) -> dict[str, np.ndarray]:
    inputs = torch.arange(6).repeat(50)
    y1, y2 = torch.multinomial(ROWS[inputs], 2, replacement=True, generator=Streams(0).generator("labels")).unbind(1)
    table = joint().log_joint().exp()[GROUP[inputs]]
    return {"joint": table.numpy(), "y1": y1.numpy(), "y2": y2.numpy()} | changed


def test_joints_say_more(pairs):
    code, out, err = pairs("score", arrays())
    assert (code, err) == (0, "")
    table = PairDistribution.from_log_joint(torch.tensor(arrays()["joint"]).log())
    assert float(fact(out, "mutual information").split()[0]) == pytest.approx(
        float(table.mutual_information().mean()), abs=1e-4
    )
    assert float(fact(out, "mean claimed variance")) > 0
    assert fact(out, "impossible answers").startswith("at most ")
    with np.errstate(divide="ignore"):
        logs = arrays() | {"log_joint": np.log(arrays()["joint"])}
    del logs["joint"]
    assert pairs("score", logs)[1] == out
    assert pairs("calibrate", arrays())[0] == 0


def test_items_that_were_trained_on_are_refused(pairs, tmp_path):
    named = text((*rows(3), np.arange(3)), HEADER + ",item")
    (tmp_path / "used.txt").write_text("7\n2\n")
    code, _, err = pairs("calibrate", named, "--used", "used.txt")
    assert code == 2
    assert "calibration items must not have been used for training, got 1 that were, such as '2'" in err
    (tmp_path / "used.txt").write_text("7\n8\n")
    assert pairs("calibrate", named, "--used", "used.txt")[0] == 0
    code, _, err = pairs("calibrate", text(), "--used", "used.txt")
    assert (code, err) == (2, "--used needs names to compare with: f.csv must have a column or array item")


def test_a_model_that_is_sure_below_zero_is_warned_of(pairs):
    p, V, y1, y2 = rows()
    code, out, err = pairs("calibrate", text((p, V - 0.02, y1, y2)))
    assert (code, err) == (0, "")
    assert "Warning: 400 of 400 variances are below -0.001, the least -0.01" in out


@pytest.mark.plain
@pytest.mark.parametrize(
    ("verb", "content", "more", "line"),
    [
        ("score", "", (), "f.csv is empty: it must have a header with p, V, y1 and y2, and a line for each item"),
        ("score", "p,V,y1\n0.5,0,1\n", (), "f.csv, line 1: the columns must be p, V, y1 and y2, got no y2"),
        ("score", "p,variance,y1,y2\n0.5,0,1,1\n", (), "f.csv, line 1: the columns must be p, V, y1 and y2, got no V"),
        ("score", HEADER + "\n0.5,0,1,1\n", (), "f.csv must have at least 2 items, got 1"),
        ("score", HEADER + "\n0.5,0,1,1\n1.5,0,1,1\n", (), "f.csv, line 3: p must be in [0, 1], got '1.5'"),
        ("score", HEADER + "\n0.5,0,1,1\nnan,0,1,1\n", (), "f.csv, line 3: p must be in [0, 1], got 'nan'"),
        ("score", HEADER + "\n0.5,x,1,1\n0.5,0,1,1\n", (), "f.csv, line 2: V must be in [-1, 1], got 'x'"),
        ("score", HEADER + "\n0.5,0,1,1\n\n0.5,0,1\n", (), "f.csv, line 4: y2 is missing"),
        (
            "score", HEADER + "\n0.5,0,1,7\n0.5,0,1,1\n", (),
            "f.csv, line 2: y2 must be 0 or 1, whether the response is the scored label, got '7'",
        ),
        ("score", text(), ("--bins", "0"), "bins must be at least 1, got 0"),
        ("score", text(), ("--bin", "3"), "unknown option '--bin'; did you mean '--bins'?"),
        ("calibrate", text(), ("--alpha", "1.5"), "alpha must be in (0, 1), got 1.5"),
        ("calibrate", text(), ("--beta", "0"), "beta must be in (0, 1), got 0.0"),
        ("calibrate", text(), ("--eps", "0"), "eps must be in (0, 1), got 0.0"),
        ("calibrate", text(), ("--method", "bernstien"), "--method must be one of bernstein, hoeffding, betting"),
        ("calibrat", text(), (), "calibrat"),
        ("score", {"y1": np.zeros(2)}, (), "f.npz must have the arrays joint or log_joint, y1 and y2, got y1"),
        ("score", arrays(joint=np.zeros((2, 2))), (), "joint must be floating-point numbers of shape [items, K, K]"),
        ("score", arrays(joint=np.ones((300, 3, 3))), (), "must be probabilities that sum to 1, got a sum of 9"),
        ("score", arrays(y1=np.full(300, 3)), (), "f.npz: y1 must be in [0, 3), got 3"),
        ("score", arrays(y1=np.zeros(300)), (), "f.npz: y1 must be whole numbers, got float64"),
        ("score", arrays(y1=np.zeros(3, int)), (), "f.npz: y1 must have the shape (300,)"),
    ],
)  # fmt: skip
def test_bad_files_and_flags_get_one_line(pairs, verb, content, more, line):
    code, _, err = pairs(verb, content, *more)
    assert code == 2
    assert line in err
    assert "\n" not in err


@pytest.mark.plain
def test_a_file_that_is_not_there_and_a_verb_that_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("none.csv", "none.npz"):
        assert main(["pairs", "score", name]) == 2
        assert f"got {name}, which is not there" in capsys.readouterr().err
    (tmp_path / "text.npz").write_text("p,V")
    assert main(["pairs", "score", "text.npz"]) == 2
    assert "text.npz is not an npz file of plain arrays" in capsys.readouterr().err
    assert main(["pairs"]) == 2
    assert "a verb is missing, write aleator pairs VERB (verbs: calibrate, score)" in capsys.readouterr().err
