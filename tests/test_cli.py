"""Claims about the door: exit codes, one line for what went wrong, and nothing heavy loaded to say it."""

import subprocess
import sys
from pathlib import Path

import pytest

import aleator
from aleator.cli import VERBS, main
from aleator.experiment.registry import names

RECIPES = ", ".join(names())
TOY = f"{Path(__file__).parent / 'experiment' / 'toy_recipe.py'}:Toy"


def process(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=120, **kwargs)


def refused(capsys, *args: str) -> str:
    """The line that a bad command line gets."""
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("aleator: ")
    assert captured.err.count("\n") == 1
    return captured.err.strip().removeprefix("aleator: ")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"aleator {aleator.__version__}\n"


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(args, capsys):
    assert main(args) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize(
    "args",
    [
        ["run"],
        ["compare"],
        ["data"],
        ["list"],
        ["new"],
        ["report"],
        ["data", "fetch"],
        ["curve", "fit"],
        ["mixture", "plan"],
    ],
)
def test_every_verb_has_a_help(args, capsys):
    assert main([*args, "--help"]) == 0
    assert f"usage: aleator {' '.join(args)}" in capsys.readouterr().out


def test_help_of_a_recipe_shows_its_options_and_those_of_the_run(capsys):
    for verb, expected in (("run", "--resume"), ("compare", "--variant")):
        assert main([verb, "classify", "--help"]) == 0
        text = capsys.readouterr().out
        assert all(word in text for word in ("--batch-size INT", "run options", "--threads INT", "--out DIR", expected))


def test_compare_takes_seeds_and_no_seed(capsys):
    line = refused(capsys, "compare", "classify", "--variant", "a", "--seed", "3")
    assert line.startswith("unknown option '--seed'; did you mean '--seeds'?")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["rnu"],
            f"unknown command 'rnu'; did you mean 'run'? (commands: {', '.join(VERBS)})",
        ),
        (["list", "recipe"], "WHAT must be one of all, methods, recipes, data, got 'recipe'; did you mean 'recipes'?"),
        (["data"], "a verb is missing, write aleator data VERB (verbs: list, fetch, verify)"),
        (["data", "fetsh"], "unknown verb 'fetsh'; did you mean 'fetch'? (verbs: list, fetch, verify)"),
        (["data", "fetch"], "NAME is missing: it must be text"),
        (["curve"], "a verb is missing, write aleator curve VERB (verbs: fit)"),
        (["curve", "fti"], "unknown verb 'fti'; did you mean 'fit'? (verbs: fit)"),
        (
            ["run", "clasify"],
            f"unknown recipe 'clasify'; did you mean 'classify'? (recipes: {RECIPES}; or path/to/file.py:Class)",
        ),
        (
            ["run", "--seed", "3"],
            "RECIPE is missing, write aleator run RECIPE [--FIELD VALUE …] "
            f"(recipes: {RECIPES}; or path/to/file.py:Class)",
        ),
        (["run", "nowhere.py:Mine"], "there is no recipe file 'nowhere.py'"),
        (["run", "classify", "--ratio", "0"], "ratio must be in (0, 1], got 0.0"),
        (["run", "classify", "--ratio", "1.5"], "ratio must be in (0, 1], got 1.5"),
        (["run", "classify", "--threads", "0"], "threads must be at least 1, got 0"),
        (["run", "classify", "--resume"], "--out is missing: --resume needs the folder of the run to continue"),
        (
            ["run", "classify", "--data", "mnits"],
            "--data must be one of digits, mnist, fashion-mnist, cifar10, got 'mnits'; did you mean 'mnist'?",
        ),
        (
            ["--tyro-print-completion", "sh"],
            "write --tyro-print-completion SHELL with SHELL one of bash, zsh, tcsh, fish, got 'sh'",
        ),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(args, line, capsys):
    assert refused(capsys, *args) == line


def test_an_unknown_data_set_is_named_with_the_closest(capsys):
    assert "'mnits'; did you mean 'mnist'?" in refused(capsys, "data", "verify", "mnits")


def test_a_recipe_file_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def broken(:\n")
    assert "mine.py:1 cannot be imported: SyntaxError" in refused(capsys, "run", f"{tmp_path}/mine.py:Mine")


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    def without_ray(*_):
        raise ImportError("Ray is not installed: pip install 'aleator[ray]'")

    monkeypatch.setattr("aleator.cli._module", without_ray)
    assert refused(capsys, "compare") == "Ray is not installed: pip install 'aleator[ray]'"


def test_another_import_error_is_ours_and_crashes(monkeypatch):
    def broken(*_):
        raise ImportError("no module named typo")

    monkeypatch.setattr("aleator.cli._module", broken)
    with pytest.raises(ImportError, match="typo"):
        main(["compare"])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_verbs_recipes_and_flags(shell, tmp_path, capsys):
    assert main(["--tyro-print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("compare", "classify", "batch-size", "variant", "verify"))
    assert main(["--tyro-write-completion", shell, str(tmp_path / "script")]) == 0
    assert (tmp_path / "script").read_text().strip() == script.strip()


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["list"],
        ["run", "--help"],
        ["run", "classify", "--help"],
        ["compare", "classify", "--help"],
        ["run", "classify", "--lr", "x"],
        ["curve", "fit", "--help"],
        ["--tyro-print-completion", "bash"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_to_answer(args):
    code = (
        "import sys\nfrom aleator.cli import main\n"
        f"main({args!r})\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'plotly', 'accelerate', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    answer = process("-c", code)
    assert answer.returncode == 0, answer.stderr


def test_the_module_is_the_command():
    answer = process("-m", "aleator", "--version")
    assert (answer.returncode, answer.stdout) == (0, f"aleator {aleator.__version__}\n")


def test_ctrl_c_while_a_recipe_file_is_imported(tmp_path):
    (tmp_path / "mine.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    answer = process("-m", "aleator", "run", "mine.py:Mine", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (130, "aleator: interrupted\n")


def test_ctrl_c_while_torch_is_imported(tmp_path):
    code = f"""
import signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from aleator.cli import VERBS, main
sys.exit(main(["run", "classify", "--out", {str(tmp_path / "out")!r}]))
"""
    answer = process("-c", code)
    assert (answer.returncode, answer.stderr) == (130, "aleator: interrupted\n")
    assert not (tmp_path / "out").exists()
