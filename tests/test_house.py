"""Claims about the house as a whole: which file imports which."""

import ast
import graphlib
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"
NAMES = {
    ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (SOURCES / "aleator").rglob("*.py")
}


def imported(source: str, names: set[str]) -> set[str]:
    """The files among ``names`` that a source imports: at its head, inside functions, and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"an import relative to its file, at line {node.lineno}"
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= modules & names or {str(node.module)}
    return found & names


def circle(imports: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or an empty list."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_file_imports_itself_by_way_of_others():
    imports = {name: imported(path.read_text(), set(NAMES)) - {name} for name, path in NAMES.items()}
    assert len(imports) > 100
    assert sum(map(len, imports.values())) > 500
    assert circle(imports) == []


@pytest.mark.parametrize(
    "back",
    [
        "from aleator.a import f",
        "import aleator.a",
        "def g():\n    from aleator import a",
        "if TYPE_CHECKING:\n    from aleator.a import F",
    ],
)
def test_a_circle_is_found_wherever_its_imports_stand(back):
    sources = {"aleator.a": "from aleator.b import g", "aleator.b": "import aleator.c", "aleator.c": back}
    found = circle({name: imported(source, set(sources)) for name, source in sources.items()})
    assert set(found) == set(sources)
