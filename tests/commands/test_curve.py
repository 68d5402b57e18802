"""``aleator curve fit``: what it reads, what it says, and what it refuses in one line."""

import re

import numpy as np
import pytest

from aleator.cli import main

X = 5000 * np.arange(1, 21)


def curve(c: float = 0.95, seed: int = 0) -> np.ndarray:
    return c - 0.3 * (X / 5000) ** -0.5 + np.random.default_rng(seed).normal(0, 0.001, len(X))


def lines_of(y, header: str = "size,score", tail: str = "") -> str:
    return "\n".join([header, *(f"{x},{score:.5f}{tail}" for x, score in zip(X, y, strict=True))]) + "\n"


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """Run the command on a text; returns exit code, output and the line on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(text: str | bytes, *more: str, horizon: str = "400000", tau: str = "0.02") -> tuple[int, str, str]:
        (tmp_path / "s.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        code = main(["curve", "fit", "s.csv", "--horizon", horizon, "--tau", tau, *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.removeprefix("aleator: ").strip()

    return run


def fact(out: str, name: str) -> str:
    return re.search(rf"^{re.escape(name)}  +(.*)$", out, flags=re.MULTILINE)[1]


def test_forecast_is_near_the_truth_and_inside_its_band(fit):
    code, out, err = fit(lines_of(curve()), "--target", "0.9")
    assert (code, err) == (0, "")
    truth = 0.95 - 0.3 * 80**-0.5
    assert float(fact(out, "forecast at 400,000")) == pytest.approx(truth, abs=0.005)
    low, high = map(float, fact(out, "95 % band").split(" to "))
    assert low <= truth <= high
    assert fact(out, "prediction level") == "3 (size 15,000)"
    assert fact(out, "decided at level") == "9 (size 45,000)"
    size = int(fact(out, "size for 0.9").split()[0].replace(",", ""))
    assert size == pytest.approx(5000 * 36, rel=0.1)


@pytest.mark.parametrize(
    "text",
    [
        lines_of(curve(), "x,y"),
        "\n".join(["Score,Size", *(f"{y:.5f},{x}" for x, y in zip(X, curve(), strict=True))]),
        lines_of(curve(), "words,accuracy"),
        lines_of(curve()).partition("\n")[2],
        lines_of(curve()).replace(",", ";"),
        lines_of(curve()).replace(",", "\t"),
        "\ufeff" + lines_of(curve()).replace("\n", "\r\n\r\n"),
    ],
    ids=["x and y", "named columns", "first two", "no header", "semicolons", "tabs", "a spreadsheet's"],
)
def test_the_same_scores_in_other_clothes(fit, text):
    code, out, err = fit(text)
    assert (code, out.partition("\n")[2], err) == (0, fit(lines_of(curve()))[1].partition("\n")[2], "")
    assert out.startswith("read s.csv: 20 sizes from 5,000 to 100,000")


def test_same_seed_gives_the_same_band_and_another_does_not(fit):
    one, same, other = (fact(fit(lines_of(curve()), "--seed", seed)[1], "95 % band") for seed in ("1", "1", "2"))
    assert one == same != other


@pytest.mark.parametrize(("tau", "answer"), [("0.13", "yes, since level 4"), ("0.001", "not yet")])
def test_tau_says_whether_more_data_pays(fit, tau, answer):
    """From level ℓ the curve still gains 0.3·(ℓ^(−1/2) − 80^(−1/2)) up to the horizon: 0.140 at 3, 0.116 at 4."""
    assert fact(fit(lines_of(curve()), tau=tau)[1], f"at most {tau} left").startswith(answer)


def test_too_few_levels_are_undecided_in_words(fit):
    _, out, _ = fit("".join(lines_of(curve()).splitlines(keepends=True)[:6]))
    assert fact(out, "working level") == fact(out, "promised in all") == "undecided"
    assert "Warning: undecided: forecasts are usually too good" in out


def test_falling_scores_are_said_to_fall(fit):
    code, out, _ = fit(lines_of(curve()[::-1]), "--target", "0.94")
    assert code == 0
    assert "Warning: the scores do not get better with more data" in out
    assert fact(out, "size for 0.94") == "never: the scores do not get better with more data"


def test_losses_may_be_above_one(fit):
    code, out, _ = fit(lines_of(3 - curve()), "--lower-is-better", "--target", "2.1")
    assert code == 0
    assert float(fact(out, "forecast at 400,000")) == pytest.approx(2.05 + 0.3 * 80**-0.5, abs=0.005)
    assert fact(out, "trend").startswith("2.0")


def test_two_systems_are_compared(fit):
    new = lines_of(curve(0.97, seed=1), tail=",new").partition("\n")[2]
    rows = lines_of(curve(0.95), "size,score,system", ",old") + new
    code, out, _ = fit(rows)
    assert code == 0
    assert re.search(r"^old, new +new +100 % of refits +the bands are apart$", out, flags=re.MULTILINE)
    assert len(fact(out, "last score").split()) == 2


def test_page_is_one_file_that_loads_nothing(fit, tmp_path):
    hostile = "<script>alert(1)</script>"
    code, out, _ = fit(lines_of(curve(), "size,score,system", f",{hostile}"), "--plot", "out/picture.html")
    assert (code, out.splitlines()[-1]) == (0, "picture: out/picture.html")
    page = (tmp_path / "out" / "picture.html").read_text()
    assert "default-src 'none'" in page
    assert hostile not in page
    assert fact(out, "forecast at 400,000") in page


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "s.csv is empty: it must have a line for each size"),
        ("size,score\n", "s.csv has a header and no scores"),
        ("size\n1000\n", "s.csv, line 2: two columns are needed, size and score, got 1"),
        ("size,score\n1000,0.7\n2000,good\n", "s.csv, line 3: score must be a number, got 'good'"),
        ("1000,abc\n2000,0.8\n", "s.csv, line 1: score must be a number, got 'abc'"),
        ("1O00,0.7\n2000,0.8\n", "s.csv, line 1: size must be a number, got '1O00'"),
        (
            "size,score\n1,000,0.5\n",
            "s.csv, line 2: a line must have 2 cells like the first one, got 3; put numbers with a comma in quotation "
            "marks",
        ),
        ("size,score\n1000,0.7\n\n2q,0.8\n", "s.csv, line 4: size must be a number, got '2q'"),
        ("size,score\n1000,0.7\n2000,nan\n", "s.csv, line 3: score must be a number, got 'nan'"),
        ("size,score\n1000,0.7\n2000\n", "s.csv, line 3: score is missing"),
        ("size,score,system\n1000,0.7,a\n2000,0.8\n", "s.csv, line 3: system is missing"),
        (
            "size,score\n1000,0.7\n2000,70.5\n",
            "s.csv, line 3: scores must be in [0, 1], or all percentages, got 70.5 beside 0.7; write percentages with "
            "%, and for losses add --lower-is-better",
        ),
        ("size,score\n1000,-0.1\n", "s.csv, line 2: score must not be negative, got -0.1"),
        ("size,score\n0,0.1\n", "s.csv, line 2: size must be positive, got 0"),
        ("size,score\n1000,0.7\n2000,0.8\n", "s.csv: a curve needs at least 3 different sizes, got 2"),
        (
            "size,score,system\n1000,0.7,a\n2000,0.8,a\n3000,0.8,a\n1000,0.7,b\n",
            "s.csv: a curve needs at least 3 different sizes, got 1 of system 'b'",
        ),
        (b"\xff\xfe\x00", "s.csv is not a text in UTF-8 or UTF-16: save it as CSV in UTF-8"),
    ],
)
def test_bad_file_is_one_line_with_the_number_of_its_line(fit, text, line):
    assert fit(text) == (2, "", line)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"horizon": "50000"}, "--horizon must be at least the largest size 100000, got 50000"),
        ({"horizon": "far"}, "--horizon must be a number, got 'far'"),
        ({"tau": "0"}, "tau must be positive, got 0.0"),
        ({"tau": "-0.1"}, "tau must be positive, got -0.1"),
    ],
)
def test_bad_numbers_are_one_line(fit, more, line):
    assert fit(lines_of(curve()), **more) == (2, "", line)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--target", "-1"], "target must be in [0, 1], got -1.0; divide percentages by 100"),
        (["--lower-is-better", "--target", "-1"], "target must be at least 0 and finite, got -1.0"),
        (["--target", "95"], "target must be in [0, 1], got 95.0; divide percentages by 100"),
        (["--plot", "out.svg"], "plot must end in .html (the picture is a page that opens from disk), got out.svg"),
        (["--nu", "0"], "nu must be positive, got 0.0"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--lookahead", "-1"], "lookahead must be at least 0, got -1"),
    ],
)
def test_bad_options_are_one_line(fit, more, line):
    assert fit(lines_of(curve()), *more) == (2, "", line)


@pytest.mark.parametrize(("name", "what"), [("none.csv", "is not there"), (".", "is a folder")])
def test_missing_file_is_one_line(name, what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["curve", "fit", name, "--horizon", "10", "--tau", "0.1"]) == 2
    assert capsys.readouterr().err == f"aleator: FILE must be a CSV file, got {name}, which {what}\n"


NEAR_ONE = "size,score\n100,0.70\n200,0.80\n400,0.87\n800,0.93\n1600,0.97\n3200,0.985\n"  # ../shared/trials


def test_no_forecast_is_beyond_what_a_score_can_be(fit, tmp_path):
    code, out, _ = fit(NEAR_ONE, "--target", "0.999", "--plot", "page.html", horizon="1e6")
    assert code == 0
    assert fact(out, "forecast at 1,000,000") == fact(out, "asymptote") == "impossible: beyond 1"
    assert fact(out, "95 % band") == "none"
    assert "which leads beyond 1, reaches it" in fact(out, "size for 0.999")
    assert "Warning: the trend leads beyond what a score can be: there is no forecast that far." in out
    assert "Forecast at 1\u202f000\u202f000: none, the trend leads beyond 1." in (tmp_path / "page.html").read_text()


def test_several_scores_of_a_size_are_averaged_and_their_spread_is_used(fit):
    rows = "".join(f"{x},{y + shift:.5f}\n" for shift in (0.0, 0.01, -0.01) for x, y in zip(X, curve(), strict=True))
    code, out, _ = fit("size,score\n" + rows)
    assert code == 0
    assert "3 scores for each size, averaged, their spread used" in out
    low, high = map(float, fact(out, "95 % band").split(" to "))
    assert high - low == pytest.approx(2 * 0.01 * (3 / 2) ** 0.5, rel=0.05)  # whole repetitions are drawn


def test_all_systems_of_a_wide_table_are_compared(fit):
    rows = "".join(f"{x};{a:.4f};{b:.4f}\n" for x, a, b in zip(X, curve(0.95), curve(0.97, seed=1), strict=True))
    code, out, _ = fit(("Wörter;alt;neu\n" + rows).replace(".", ",").encode("utf-16"))
    assert code == 0
    assert out.startswith(
        "read s.csv: 2 systems (alt, neu), 20 sizes from 5,000 to 100,000, sizes in 'Wörter', scores in 2 columns, "
        "semicolons, UTF-16, decimal commas\n"
    )
    assert re.search(r"^alt, neu +neu ", out, flags=re.MULTILINE)
