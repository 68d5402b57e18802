"""Every page of the book runs; its assertions are what the page concludes. The map knows every page and chapter."""

import ast
from pathlib import Path

import pytest

from experiments.book import CHAPTERS, OURS, PAGES, chapter_map

FILES = sorted(PAGES.glob("*.py"))


def lines_of_code(page: Path) -> int:
    """Lines that are code, without imports, comments and docstrings."""
    text = page.read_text(encoding="utf-8")
    others: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            others.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and line.lstrip()[0] != "#" and number not in others for number, line in lines)


@pytest.mark.parametrize("page", FILES, ids=[page.stem for page in FILES])
def test_page_runs_and_concludes(page: Path, warm):
    text = page.read_text(encoding="utf-8")
    assert "assert " in text
    assert "# What may be concluded" in text
    done = warm.script(page)
    assert done.code == 0, done.err
    assert done.out
    # pgmpy 1.1 warns about a module of its own, whatever is imported from it.
    assert [line for line in done.err.splitlines() if "Warning:" in line and "/pgmpy/" not in line] == []


def test_the_map_has_every_chapter_once_and_every_page():
    assert [chapter.number for chapter in CHAPTERS] == list(range(1, 24))
    pages = [(chapter.number, page) for chapter in CHAPTERS for page in chapter.pages]
    assert sorted(page for _, page in pages) == [file.stem for file in FILES]
    assert all(page.startswith(f"{number:02d}_") for number, page in pages)
    assert [chapter.number for chapter in CHAPTERS if not chapter.pages] == [1]  # the table of notation
    assert {chapter.number for chapter in CHAPTERS if chapter.ours} >= OURS
    assert all(page in chapter_map() for _, page in pages)


@pytest.mark.parametrize("page", FILES, ids=[page.stem for page in FILES])
def test_a_page_has_the_title_of_its_chapter(page: Path):
    """Whose underline is not shorter: sphinx-gallery would not take it for a title."""
    title, line = ast.get_docstring(ast.parse(page.read_text(encoding="utf-8"))).splitlines()[:2]
    assert title.startswith(f"Chapter {int(page.stem[:2])}: ")
    assert line == "=" * len(title)


@pytest.mark.parametrize("page", [page for page in FILES if int(page.stem[:2]) not in OURS], ids=lambda page: page.stem)
def test_a_page_that_shows_a_library_is_short(page: Path):
    assert lines_of_code(page) <= 25
