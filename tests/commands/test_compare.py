"""Claims about ``aleator compare`` as a person meets it; what it computes is tested in ``tests/experiment``."""

import json
import shutil
from pathlib import Path

import pytest

from aleator.cli import main

TOY = f"{Path(__file__).parents[1] / 'experiment' / 'toy_recipe.py'}:Toy"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def compare(*args: str) -> int:
    return main(["compare", TOY, "--steps", "10", *args])


def refused(capsys, *args: str) -> str:
    assert compare(*args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.strip().removeprefix("aleator: ")


def test_variants_are_run_over_seeds_and_reported(capsys):
    assert compare("--variant", "a", "--variant", "slow:lr=0.001", "--seeds", "2") == 0
    (folder,) = Path("runs/Toy").iterdir()
    assert folder.name.startswith("compare-")
    content = json.loads((folder / "comparison.json").read_text())
    assert [(v["name"], v["changed"]) for v in content["variants"]] == [("a", {}), ("slow", {"lr": 0.001})]
    assert content["seeds"] == [0, 1]
    text = capsys.readouterr().out
    assert "Over 2 seeds" in text
    assert "\x1b" not in text
    assert text.strip().endswith(f"report: {folder}/report.html")
    assert (folder / "report.html").is_file()


def test_the_same_folder_goes_on_and_runs_nothing_twice(capsys):
    assert compare("--variant", "a", "--seeds", "1", "--out", "o") == 0
    first = {path: path.stat().st_mtime_ns for path in Path("o/runs").glob("*/result.json")}
    assert compare("--variant", "a", "--variant", "b:lr=0.2", "--seeds", "1", "--out", "o") == 0
    assert len(list(Path("o/runs").iterdir())) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())


def test_a_failed_run_is_exit_code_1_with_its_log_and_the_others_are_reported(capsys):
    assert compare("--variant", "a", "--variant", "bad:fail_at=3", "--seeds", "1", "--out", "o") == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().split("\n")
    assert lines[-1] == "aleator: 1 of 2 runs failed (logs: o/runs/*/run.log)"
    assert any(
        f"RuntimeError: the toy broke ({TOY.removesuffix(':Toy')}:" in line and ") (log: o/runs/bad-seed0-" in line
        for line in lines
    )
    assert "Traceback" not in captured.err
    assert "report: o/report.html" in captured.out


def test_a_comparison_whose_runs_all_failed_has_a_report_too(capsys):
    assert compare("--variant", "bad:fail_at=3", "--seeds", "1", "--out", "o") == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("aleator: 1 of 1 runs failed (logs: o/runs/*/run.log)\n")
    assert captured.out == "report: o/report.html\n"


def test_tuned_values_and_plain_flags_arrive(capsys):
    assert compare("--variant", "a", "--tune", "lr=0.1,0.01", "--seeds", "1", "--threads", "1", "--out", "o") == 0
    content = json.loads(Path("o/comparison.json").read_text())
    assert content["tune"] == {"field": "lr", "values": [0.1, 0.01]}
    assert content["variants"][0]["options"]["steps"] == 10


def test_dry_run_tells_the_cost_and_writes_nothing(capsys):
    assert compare("--variant", "a", "--variant", "b:lr=0.2", "--seeds", "2", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "runs: 4" in text
    assert "time: about" in text
    assert "disk: about" in text
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "--variant is missing: a comparison needs at least one --variant NAME[:FIELD=VALUE,…]"),
        (["--variant", "a", "--variant", "a"], "variants must be distinct, got 'a' twice"),
        (["--variant", "a:lr=0"], "variant 'a': lr must be positive, got 0.0"),
        (["--variant", "a", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--variant", "a", "--seeds", "two"], "--seeds must be an integer, got 'two'"),
        (["--variant", "a", "--workers", "0"], "workers must be at least 1, got 0"),
        (["--variant", "a", "--tune", "lr"], "--tune must be FIELD=V1,V2,…, got 'lr'"),
        (["--variant", "a", "--tune", "lr=1,1"], "the values of lr must be distinct, got 1.0 twice"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(args, line, capsys):
    assert refused(capsys, *args) == line
    assert list(Path().iterdir()) == []


def test_sizes_need_a_recipe_that_has_a_size(capsys):
    assert "has no option 'train_size'" in refused(capsys, "--variant", "a", "--sizes", "10", "20")


def test_a_folder_of_another_recipe_is_refused(capsys):
    assert compare("--variant", "a", "--seeds", "1", "--out", "o") == 0
    capsys.readouterr()
    assert main(["compare", "classify", "--variant", "a", "--out", "o"]) == 2
    line = capsys.readouterr().err.strip()
    assert line == f"aleator: o holds a comparison of recipe {TOY!r}, not of 'classify'; choose another with --out"


def test_report_is_written_again(capsys):
    assert compare("--variant", "a", "--seeds", "1", "--out", "o") == 0
    Path("o/report.html").unlink()
    assert main(["report", "o"]) == 0
    assert Path("o/report.html").is_file()
    assert capsys.readouterr().out.endswith("report: o/report.html\n")


def test_report_of_a_folder_that_holds_nothing(capsys):
    assert main(["report", "o"]) == 2
    assert capsys.readouterr().err.startswith(
        "aleator: folder must be the folder of a comparison, of a run or of advice, got o"
    )


def test_the_folder_is_all_that_a_resume_needs(tmp_path, monkeypatch, capsys):
    Path("mine.py").write_bytes(Path(TOY.removesuffix(":Toy")).read_bytes())
    words = ["compare", "mine.py:Toy", "--variant", "a", "--variant", "b:lr=0.2", "--seeds", "2", "--steps", "4"]
    assert main([*words, "--out", "o"]) == 0
    (lost,) = Path("o/runs").glob("b-seed1-*")
    shutil.rmtree(lost)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert main(["compare", "--resume", "--out", "../o"]) == 0
    content = json.loads((tmp_path / "o" / "comparison.json").read_text())
    assert (content["finished_runs"], [v["name"] for v in content["variants"]]) == (4, ["a", "b"])
    assert content["command"][:3] == ["aleator", "compare", "mine.py:Toy"]
    assert main(["compare", "--resume", "--out", "../o", "--seeds", "2", "--workers", "1"]) == 0
    capsys.readouterr()
    for given, line in [
        (["--seeds", "3"], "seeds must be 2 as in the comparison in"),
        (["--lr", "0.3"], "lr must be 0.1 as in the comparison in"),
        (["--variant", "a"], "variant must be ['a', 'b:lr=0.2'] as in the comparison in"),
    ]:
        assert main(["compare", "--resume", "--out", "../o", *given]) == 2
        assert line in capsys.readouterr().err


def test_resume_says_what_to_do_where_it_cannot(capsys):
    assert main(["compare", "--resume"]) == 2
    assert "--out is missing: --resume needs the folder of the comparison" in capsys.readouterr().err
    assert main(["compare", "--resume", "--out", "o"]) == 2
    assert "there is no comparison to resume in o; start one without --resume" in capsys.readouterr().err
    Path("o").mkdir()
    Path("o/comparison.json").write_text('{"sch')
    assert main(["compare", "--resume", "--out", "o"]) == 2
    assert "give the command of the comparison again, without --resume" in capsys.readouterr().err
