"""The truth of README and docs: their code runs, their commands, links and names exist."""

import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import aleator
from aleator.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECIPE_PAGE = DOCS / "your-own-recipe.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
]


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=name_of)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, warm):
    (tmp_path / "page.py").write_text("\n".join(python_blocks(page)))
    done = warm.script(tmp_path / "page.py", cwd=tmp_path)
    assert done.code == 0, done.err


def test_readme_and_the_method_card_have_code_to_run():
    for page in (ROOT / "README.md", DOCS / "methods" / "rs2.md", RECIPE_PAGE):
        assert python_blocks(page), page


def block_with(text: str) -> str:
    """The block of the page on recipes that has a text in it."""
    (found,) = [block for block in python_blocks(RECIPE_PAGE) if text in block]
    return found


@pytest.mark.parametrize(
    ("name", "metric", "bound"),
    [("Diabetes", "loss", 0.8), ("Tags", "loss", 0.5), ("Pitch", "loss", 0.8), ("Ears", "loss", 0.8)],
)
def test_the_supervised_recipes_of_the_guide_learn(name, metric, bound, tmp_path):
    """Errors of those who know nothing: 1 for Diabetes, log 2 for Tags, log 3 for Pitch and Ears."""
    file = tmp_path / "page.py"
    file.write_text("\n".join(python_blocks(RECIPE_PAGE)))
    options = ["--first-layer", "tract"] if name == "Ears" else []
    rounds = "10" if name in ("Diabetes", "Tags") else "3"  # the others read their examples one by one
    words = ["run", f"{file}:{name}", "--rounds", rounds, *options, "--trackers", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"][metric] < bound


def test_the_part_of_the_guide_is_an_option_and_is_refused_where_it_cannot_be(tmp_path, capsys):
    shaken = "@dataclass(frozen=True)\nclass Shaken(Diabetes, Shake):\n    pass\n"
    pages = (RECIPE_PAGE, DOCS / "adding-a-method.md")
    file = tmp_path / "page.py"
    file.write_text("\n".join([*(block for page in pages for block in python_blocks(page)), shaken]))
    losses = []
    for size in ("1e-9", "0.1"):
        out = tmp_path / size
        command = ["run", f"{file}:Shaken", "--rounds", "2", "--shake", size, "--trackers", "--out", str(out)]
        assert main(command) == 0
        losses.append(json.loads((out / "result.json").read_text())["test"]["loss"])
    assert losses[1] > 2 * losses[0]
    assert main(["run", f"{file}:Shaken", "--shake", "-1", "--out", str(tmp_path / "run")]) == 2
    assert "shake must be positive, got -1.0" in capsys.readouterr().err


def test_the_recipe_of_the_guide_learns_and_resumes_to_the_same_error(tmp_path):
    file = tmp_path / "sine.py"
    file.write_text(block_with("class Sine:"))
    command = ["run", f"{file}:Sine", "--steps", "200", "--checkpoint-seconds", "0", "--keep-checkpoints", "1000"]
    out = tmp_path / "run"
    assert main([*command, "--out", str(out)]) == 0
    first = json.loads((out / "result.json").read_text())
    assert first["test"]["error"] < 0.05  # the sine's own mean square is 0.5

    # As if killed after step 120: what came later is not there.
    (out / "result.json").unlink()
    for path in (out / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > 120:
            for part in path.iterdir():
                part.unlink()
            path.rmdir()
    assert main([*command, "--out", str(out), "--resume"]) == 0
    assert json.loads((out / "result.json").read_text())["test"] == first["test"]


def test_the_recipe_of_the_guide_refuses_negative_noise_with_exit_code_2(tmp_path, capsys):
    file = tmp_path / "sine.py"
    file.write_text(block_with("class Sine:"))
    assert main(["run", f"{file}:Sine", "--noise", "-1", "--out", str(tmp_path / "run")]) == 2
    assert "noise must not be negative, got -1.0" in capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/getting-started.md"])
def test_make_help_lists_every_target_that_a_page_names(page):
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=[ `.,;]|$)", (ROOT / page).read_text(), flags=re.MULTILINE)) - {"sure"}
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^ +make ([a-z]+)", listed, flags=re.MULTILINE)) | {"help"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_local_link_of_a_page_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


ROOMS = (
    "random",
    "data",
    "nn",
    "losses",
    "gradients",
    "optim",
    "optim.proximal",
    "sde",
    "language",
    "graphs",
    "pde",
    "fields",
    "video",
    "spiking",
    "stats",
    "experiment",
)


@pytest.mark.parametrize("package", ["aleator", *(f"aleator.{room}" for room in ROOMS)])
def test_the_reference_lists_every_public_name_of_a_package(package):
    page = (DOCS / "api" / f"{package.rpartition('.')[2]}.md").read_text()
    listed = set(re.findall(rf"^\.\. \S+:: {re.escape(package)}\.(\w+)$", page, flags=re.MULTILINE))
    assert listed == set(importlib.import_module(package).__all__) - {"__version__"}


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == aleator.__version__
    assert citation["cff-version"] == "1.2.0"
