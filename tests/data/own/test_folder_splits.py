"""Folders of texts and images become classes and numbers."""

import pytest
import torch
from PIL import Image

from aleator.data import image_splits, text_splits


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("by_line", [True, False])
def test_texts_come_by_line_or_by_file(tmp_path, by_line):
    for name, word in (("bad", "dull"), ("good", "lovely")):
        lines = [f"a {word} film" for _ in range(20)]
        if by_line:
            (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n\n")
        else:
            (tmp_path / name).mkdir()
            for number, line in enumerate(lines):
                (tmp_path / name / f"{number}.txt").write_text(line)
    splits = text_splits(tmp_path, generator())
    assert {name: len(y) for name, (_, y) in splits.items()} == {"train": 28, "validation": 6, "test": 6}
    for x, y in splits.values():
        assert x.dtype == torch.float32
        torch.testing.assert_close(x.norm(dim=1), torch.ones(len(x)))
        dull = x[:, (x[y == 0] > 0).all(0) & (x[y == 1] == 0).all(0)]
        assert dull.shape[1] == 1  # one word stands in all texts of one class and in none of the other


def test_words_of_held_out_texts_alone_are_unknown(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("\n".join(f"word{name}{n}x" for n in range(20)))
    assert text_splits(tmp_path, generator())["test"][0].sum() == 0


def test_images_are_resized_and_standardised_by_training_images(tmp_path):
    for name, grey in (("dark", 10), ("light", 200)):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (7 + number, 9), grey + number).save(tmp_path / name / f"{number}.png")
    splits = image_splits(tmp_path, generator(), size=4)
    x, y = splits["train"]
    assert x.shape == (14, 3, 4, 4)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3))
    assert ((x.mean((1, 2, 3)) > 0) == (y == 1)).all()


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"must hold two or more classes of texts: .*, got 0"):
        text_splits(tmp_path, generator())
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        image_splits(tmp_path / "nowhere", generator())
    (tmp_path / "b").mkdir()
    for number in range(6):
        for name in "ab":
            Image.new("L", (3, 3)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a/0\.png cannot be read as an image"):
        image_splits(tmp_path, generator())
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        image_splits(tmp_path, generator(), 0)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match=r"a\.txt is not a text in UTF-8"):
        text_splits(tmp_path, generator())
