"""Every page of the book runs; its assertions are what the page concludes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "examples" / "book").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page_runs_and_concludes(page: Path):
    text = page.read_text(encoding="utf-8")
    assert "assert " in text
    assert "# What may be concluded" in text
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(page)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
