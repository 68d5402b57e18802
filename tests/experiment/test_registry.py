from pathlib import Path

import pytest

from aleator.experiment import registry

TOY = Path(__file__).parent / "toy_recipe.py"


def test_built_in_recipe_is_registered_and_resolved():
    assert registry.names()["classify"] == "aleator.recipes.classify:Classify"
    assert registry.resolve("classify").__name__ == "Classify"
    assert registry.source_sha256("classify") is None


def test_recipe_in_a_file_is_resolved_once():
    assert registry.resolve(f"{TOY}:Toy") is registry.resolve(f"{TOY}:Toy")
    assert registry.describe(f"{TOY}:Toy") == "Fit a noisy line."


def test_recipe_may_import_its_neighbour(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("STEPS = 3\n")
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom neighbour_of_mine import STEPS\n"
        "@dataclass(frozen=True)\nclass Mine:\n    steps: int = STEPS\n    def task(self, streams, accelerator): ...\n"
    )
    assert registry.resolve(f"{tmp_path}/mine.py:Mine")().steps == 3


def test_identity_of_a_file_follows_its_source(tmp_path):
    copy = tmp_path / "copy.py"
    copy.write_bytes(TOY.read_bytes())
    assert registry.source_sha256(f"{copy}:Toy") == registry.source_sha256(f"{TOY}:Toy")
    copy.write_text(TOY.read_text() + "# changed\n")
    assert registry.source_sha256(f"{copy}:Toy") != registry.source_sha256(f"{TOY}:Toy")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clasify", r"unknown recipe 'clasify'; did you mean 'classify'\? \(recipes: alignment, classify"),
        ("nowhere.py:Toy", "there is no recipe file 'nowhere.py'"),
        (f"{TOY}", "named path/to/file.py:Class"),
        (f"{TOY}:Toi", r"no class 'Toi' in .*; did you mean 'Toy'\?"),
        (f"{TOY}:nn", "is not a recipe"),
    ],
)
def test_unknown_recipe_is_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        registry.resolve(spec)


def test_file_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("1 +")
    with pytest.raises(ValueError, match=r"broken\.py:1 cannot be imported: SyntaxError"):
        registry.resolve(f"{tmp_path}/broken.py:Any")
