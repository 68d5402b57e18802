"""Every page of the book runs; its assertions are what the page concludes."""

from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[1] / "examples" / "book").glob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page_runs_and_concludes(page: Path, warm):
    text = page.read_text(encoding="utf-8")
    assert "assert " in text
    assert "# What may be concluded" in text
    done = warm.script(page)
    assert done.code == 0, done.err
    assert done.out
