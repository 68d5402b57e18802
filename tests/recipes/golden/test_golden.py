"""Figures of the recipes that descend on gradients, as they were before their training step was one (golden.json).

On the kind of processor and the version of torch that they were made with, weights, metrics and the order of examples
are the same bits. Elsewhere, where bits differ, runs in float64 give the same numbers to 1e-9; of these one of each
recipe is compared on every machine. To make them anew, for a change that is meant to move them:
``python tests/recipes/golden/test_golden.py``.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aleator.experiment.identity import environment

HERE = Path(__file__).parent
STORED = HERE / "golden.json"


def made_with() -> dict[str, str]:
    found = environment()
    return {
        "processor": found["machine"]["processor"],
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": found["versions"]["torch"],
    }


def launched(program: Path, count: int, *args: object) -> None:
    """Carry out a program in one process or in several, as a person does."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    words = [sys.executable, *launcher, str(program), *map(str, args)]
    subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def computed(folder: Path, modes: list[str], launch: Callable[..., object] = launched) -> dict[str, dict]:
    """Carry out the runs in one process and in two; return what came out by ``PROCESSES-RANK``."""
    for name, seed, length in (("one", 1, 9000), ("two", 2, 3000)):
        draw = random.Random(seed)
        words = ["".join(draw.choice("abcdefgh") for _ in range(draw.randint(2, 7))) for _ in range(40)]
        (folder / f"{name}.txt").write_text(" ".join(draw.choice(words) for _ in range(length))[:length])
    for count in (1, 2):
        launch(HERE / "program.py", count, folder, *modes)
    return {key: json.loads((folder / f"found-{key}.json").read_text()) for key in ("1-0", "2-0", "2-1")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, processes):
    golden = json.loads(STORED.read_text())
    modes = ["straight", "first64"] if golden["made_with"] == made_with() else ["float64"]
    return golden, computed(tmp_path_factory.mktemp("golden"), modes, processes)


def differences(golden: dict, found: dict, path: str = "") -> list[str]:
    """Return the paths of the numbers that differ by more than 1e-9, and of what else differs."""
    if isinstance(golden, dict) and golden.keys() == found.keys():
        return [line for key in golden for line in differences(golden[key], found[key], f"{path}/{key}")]
    if isinstance(golden, float) and golden == pytest.approx(found, rel=1e-9, abs=1e-9, nan_ok=True):
        return []
    return [] if golden == found else [f"{path}: {golden} became {found}"]


def of_mode(golden: dict, found: dict, exact: bool) -> tuple[dict, dict]:
    """Return what golden.json holds of the exact runs, or of those in float64, and what was found of the same."""
    names = [name for name in golden if name.endswith("/float64") != exact]
    return {name: golden[name] for name in names}, {name: known(golden[name], found[name]) for name in names}


def known(golden: dict, found: dict) -> dict:
    """Return what was found under the names that golden.json knows: a metric may join."""
    return {
        name: known(value, found[name]) if isinstance(value, dict) else found[name]
        for name, value in golden.items()
        if name in found
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_bits_as_before_on_the_same_kind_of_machine(runs):
    golden, found = runs
    if golden["made_with"] != made_with():
        pytest.skip(f"golden figures were made with {golden['made_with']}; float64 is compared all the same")
    for key, expected in golden["found"].items():
        stored, computed_now = of_mode(expected, found[key], True)
        assert [name for name in stored if stored[name] != computed_now[name]] == [], key


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_numbers_in_float64_everywhere(runs):
    golden, found = runs
    for key, expected in golden["found"].items():
        if golden["made_with"] == made_with():
            expected = {name: figures for name, figures in expected.items() if name in found[key]}
            assert sum(name.endswith("/float64") for name in expected) == 3, key
        assert differences(*of_mode(expected, found[key], False)) == [], key


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        figures = {"made_with": made_with(), "found": computed(Path(scratch), ["straight", "float64"])}
    STORED.write_text(json.dumps(figures, indent=1) + "\n")
