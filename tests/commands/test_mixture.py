"""``aleator mixture plan``: figures in a table, warnings in words, one line when something is wrong."""

import json
import subprocess
import sys

import pytest

from aleator.cli import main
from aleator.commands.size_table import read_sizes
from aleator.data import Cooldown, DomainMixture, temperature_probabilities

SIZES = {"en": 56_000_000, "ro": 600_000}
RUN = ["--steps", "60000", "--batch", "256"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(SIZES))
    return path


def table(lines):
    return {line.split()[0]: [float(word) for word in line.split()[1:]] for line in lines}


def test_the_plan_is_that_of_the_mixture_before_and_after_the_switch(file, capsys):
    assert main(["mixture", "plan", str(file), "--temperature", "5", "--cooldown", "0.5", *RUN]) == 0
    said, *lines = capsys.readouterr().out.splitlines()
    assert said == "read sizes.json: 2 domains, JSON mapping"
    mixture = DomainMixture(SIZES, Cooldown(5, 1, 0.5), 60_000)
    for begin, start, stop, temperature, factor in ((0, 0, 30_000, 5, "8.314"), (5, 30_000, 60_000, 1, "1")):
        assert lines[begin] == f"steps {start} to {stop - 1}, temperature {temperature}, variance factor {factor}"
        columns = (mixture.probabilities, mixture.scalarization_weights)
        for number, (name, figures) in enumerate(table(lines[begin + 2 : begin + 4]).items()):
            epochs = mixture.expected_epochs(256, start, stop)
            assert name == mixture.names[number]
            expected = [SIZES[name], *(column(start)[number] for column in columns), epochs[number]]
            assert figures == [pytest.approx(value, rel=1e-3) for value in expected]


def test_without_cooldown_there_is_one_table_and_notes_say_what_is_unusual(tmp_path, capsys):
    path = tmp_path / "sizes.csv"
    path.write_text("domain,size\nen,56000000\nro,600000\nxx,2000\nzz,0\n")
    assert main(["mixture", "plan", str(path), "--steps", "60000", "--batch", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("temperature") == 1
    en, _, xx = 120_000 * temperature_probabilities([56e6, 6e5, 2e3], 5) / [56e6, 6e5, 2e3]
    assert f"note: en is seen {en:.2g} times in all: part of it is never shown" in out
    assert f"note: xx is seen {xx:.3g} times in all: watch its validation loss for overfitting" in out
    assert "note: zz is empty and never shown" in out
    assert "note: a batch of 2 has no room for all 3 domains: they take turns in successive batches" in out
    assert "note: loss weights reach" in out


def test_a_switch_at_the_start_or_the_end_leaves_one_table(file, capsys):
    for at, temperature in (("0", 1), ("1", 5)):
        assert main(["mixture", "plan", str(file), "--cooldown", at, *RUN]) == 0
        assert f"steps 0 to 59999, temperature {temperature}" in capsys.readouterr().out


def test_a_plot_is_a_page_that_needs_no_network(tmp_path, capsys):
    path, page = tmp_path / "sizes.json", tmp_path / "plan.html"
    path.write_text(json.dumps({"<b>en</b>": 1000, "ro": 20}))
    assert main(["mixture", "plan", str(path), "--plot", str(page), *RUN]) == 0
    assert f"picture: {page}" in capsys.readouterr().out
    text = page.read_text()
    assert "Plotly.newPlot" in text
    assert 'src="http' not in text
    assert "<b>en" not in text


@pytest.mark.parametrize(
    ("content", "sizes"),
    [
        ("en,5\nro,2.5\n", {"en": 5, "ro": 2.5}),
        ("\ufeffname,n\n en , 5\n\n", {"en": 5}),
        ('"a,b",1e3\n', {"a,b": 1000}),
    ],
)
def test_a_csv_may_have_a_heading(tmp_path, content, sizes):
    path = tmp_path / "sizes.csv"
    path.write_text(content, encoding="utf-8")
    assert read_sizes(path).sizes == sizes


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("s.json", '[1, "two"]', 'must hold sizes by name, {"en": 1000, …}, [["en", 1000], …] or'),
        ("s.json", "[]", "must hold sizes by name"),
        ("s.json", "3", "got int"),
        ("s.json", '[{"name": "en"}, {"code": "ro", "size": 5}]', "entry 2 of"),
        ("s.json", '{"name": ["en"], "size": [1, 2]}', "must be lists of one length, got 1 and 2"),
        ("s.csv", "en;1.000\nro;2.000\n", "size may be thousands or a fraction, got '1.000'"),
        ("s.csv", "", "is empty: it must have a line for each domain"),
        ("s.json", '{"en": 1, "en": 2}', "must differ, got en, en"),
        ("s.csv", "en,1O0\nro,5\n", "line 1 of"),
        ("s.json", "{", "must be JSON: Expecting property name"),
        ("s.json", '{"en": "many"}', "size of 'en' must be a finite number, not negative, got 'many'"),
        ("s.json", '{"en": -3}', "size of 'en' must be a finite number, not negative, got -3"),
        ("s.json", '{"en": Infinity}', "size of 'en' must be a finite number, not negative, got inf"),
        ("s.json", '{"en": 0}', "must hold at least one domain with a positive size, got 1 without"),
        ("s.json", "{}", "must hold at least one domain with a positive size, got 0 without"),
        ("s.csv", "en,5\nro,many\n", "line 2 of"),
        ("s.csv", "en,5\nro\n", "line 2 of"),
        ("s.csv", "en,5\nen,6\n", "must differ, got en, en"),
    ],
)
def test_a_file_without_sizes_is_refused_in_one_line(tmp_path, capsys, name, content, reason):
    path = tmp_path / name
    path.write_text(content)
    assert main(["mixture", "plan", str(path), *RUN]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--temperature", "-5"], "temperature must be positive, got -5"),
        (["--cooldown", "2"], "cooldown must be in [0, 1], got 2"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--plot", "p.svg"], "plot must end in .html (the picture is a page that opens from disk), got p.svg"),
        (["--batch", "x"], "--batch must be an integer, got 'x'"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(file, capsys, args, reason):
    given = dict(zip(RUN[::2], RUN[1::2], strict=True)) | {args[0]: args[1]}
    assert main(["mixture", "plan", str(file), *(word for pair in given.items() for word in pair)]) == 2
    err = capsys.readouterr().err
    assert reason in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "a verb is missing, write aleator mixture VERB (verbs: plan)"),
        (["pln"], "unknown verb 'pln'; did you mean 'plan'? (verbs: plan)"),
        (["plan"], "FILE is missing"),
        (["plan", "nowhere.json", *RUN], "got nowhere.json, which is not there"),
        (["plan", "/", *RUN], "FILE must be a JSON or CSV file, got /, which is a folder"),
    ],
)
def test_a_command_that_is_incomplete_is_refused(args, reason, capsys):
    assert main(["mixture", *args]) == 2
    assert reason in capsys.readouterr().err


def test_a_plan_needs_no_torch(file):
    code = (
        "import sys; from aleator.cli import main; "
        f"main(['mixture', 'plan', {str(file)!r}, '--steps', '10', '--batch', '2']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_binary_file_is_named(tmp_path, capsys):
    (tmp_path / "s.csv").write_bytes(b"\x80\xff")
    assert main(["mixture", "plan", str(tmp_path / "s.csv"), *RUN]) == 2
    assert capsys.readouterr().err.endswith("s.csv is not a text in UTF-8 or UTF-16: save it as CSV in UTF-8\n")
