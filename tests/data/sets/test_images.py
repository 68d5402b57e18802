"""Images by name: what is in them, how they are normalised, and the messages when something is wrong."""

import dataclasses
import gzip
import hashlib
import logging
import struct

import numpy as np
import pytest
import torch

from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import RemoteFile
from aleator.data.sets.images import Examples, answered_images
from aleator.data.sets.load import load

SPLIT_TRAIN = [0, 1, 6, 5, 7, 1, 9, 5, 0, 8, 1, 4]
SPLIT_TEST = [9, 5, 6, 5, 5, 3, 3, 2, 3, 3, 3, 8]
SPLIT_SHA256 = "8009ad2b548c0e08834c78885781edb8c61c8460174173eb83a4f4b3627f5637"


@pytest.fixture
def tiny(monkeypatch):
    """A data set in the form of MNIST with five training and two test images, in the catalogue as ``tiny``."""
    rng = np.random.default_rng(0)
    contents = {}
    for part, n in (("train", 5), ("t10k", 2)):
        images = rng.integers(0, 256, (n, 4, 4), np.uint8)
        labels = rng.integers(0, 10, n, np.uint8)
        contents[f"{part}-images-idx3-ubyte.gz"] = struct.pack(">4I", 0x803, n, 4, 4) + images.tobytes()
        contents[f"{part}-labels-idx1-ubyte.gz"] = struct.pack(">2I", 0x801, n) + labels.tobytes()
    return TinySet(monkeypatch, contents)


class TinySet:
    def __init__(self, monkeypatch, contents):
        self.patch, self.contents = monkeypatch, contents
        self.files = {name: gzip.compress(content, mtime=0) for name, content in contents.items()}
        self.register()

    def register(self):
        files = tuple(
            RemoteFile(name, (), hashlib.sha256(content).hexdigest(), len(content))
            for name, content in self.files.items()
        )
        self.patch.setitem(CATALOG, "tiny", dataclasses.replace(lookup("mnist"), name="tiny", files=files))

    def write(self, root):
        (root / "tiny").mkdir(exist_ok=True)
        for name, content in self.files.items():
            (root / "tiny" / name).write_bytes(content)
        return root


def test_digits_are_scikit_learns_images_each_once():
    from sklearn.datasets import load_digits

    digits, bundled = load("digits"), load_digits()
    assert digits.train.inputs.shape == (1437, 1, 8, 8)
    assert digits.test.inputs.shape == (360, 1, 8, 8)
    ours = torch.cat([digits.train.inputs, digits.test.inputs]).flatten(1)
    both = torch.cat([ours, torch.cat([digits.train.targets, digits.test.targets])[:, None]], 1)
    original = np.concatenate([bundled.data, bundled.target[:, None]], 1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, original.astype(int).tolist()))


def test_digits_split_never_changes():
    # Recorded when the split was made. A change here changes every published result on digits.
    digits = load("digits")
    assert digits.train.targets[:12].tolist() == SPLIT_TRAIN
    assert digits.test.targets[:12].tolist() == SPLIT_TEST
    assert hashlib.sha256(digits.test.inputs.numpy().tobytes()).hexdigest() == SPLIT_SHA256


def test_digits_need_no_root(tmp_path):
    assert len(load("digits", tmp_path / "nowhere").classes) == 10


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("fashion-mnist", (1, 28, 28))])
def test_idx_sets_have_their_published_sizes_and_statistics(data_root, name, shape):
    images = load(name, data_root)
    assert images.train.inputs.shape == (60_000, *shape)
    assert images.test.inputs.shape == (10_000, *shape)
    assert images.train.inputs.dtype == torch.uint8
    assert images.train.targets.dtype == torch.int64
    assert images.train.targets.unique().tolist() == list(range(10))
    _assert_statistics(images)
    published = {"mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "fashion-mnist": [1000] * 10}
    assert images.test.targets.bincount().tolist() == published[name]


def test_digits_have_the_catalogues_statistics():
    _assert_statistics(load("digits"))


def _assert_statistics(images):
    values = images.train.inputs.double() / images.max_value
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.tensor(images.mean).double(), atol=5e-5, rtol=0)
    torch.testing.assert_close(
        values.std((0, 2, 3), correction=0), torch.tensor(images.std).double(), atol=5e-5, rtol=0
    )
    assert int(images.train.inputs.max()) == images.max_value


def test_part_of_cifar10_says_so(data_root, caplog):
    with caplog.at_level(logging.WARNING, "aleator.data"):
        images = load("cifar10", data_root)
    assert images.train.inputs.shape == (10_000, 3, 32, 32)
    assert images.train.targets.bincount().tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert images.test.targets.bincount().tolist() == [1000] * 10
    assert any("only training batch 1 of 5" in note for note in images.notes)
    assert [record.name for record in caplog.records] == ["aleator.data"]
    assert "cifar10: only training batch 1 of 5" in caplog.text
    values = images.train.inputs.double() / 255  # a fifth of the set: the statistics of the whole within 0.3 %
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.tensor(images.mean).double(), atol=3e-3, rtol=0)


def test_environment_variable_names_the_root(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEATOR_DATA", str(tiny.write(tmp_path)))
    images = load("tiny")
    expected = np.frombuffer(tiny.contents["train-images-idx3-ubyte.gz"], np.uint8, offset=16)
    np.testing.assert_array_equal(images.train.inputs.flatten(), expected)
    assert images.notes == lookup("tiny").notes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_normalise_is_the_formula_rounded_once(dtype):
    digits = load("digits")
    images = dataclasses.replace(digits, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), max_value=255)
    inputs = torch.arange(3 * 256).remainder(256).to(torch.uint8).reshape(1, 3, 16, 16)
    out = images.normalise(inputs, dtype)
    assert out.dtype == dtype
    mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (images.mean, images.std))
    exact = (inputs.double() / 255 - mean) / std
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), exact, rtol=eps, atol=8 * torch.finfo(torch.float32).eps)


def test_normalise_leaves_its_inputs_alone_and_refuses_integers():
    digits = load("digits")
    batch = digits.train.inputs[:4].clone()
    digits.normalise(batch)
    assert torch.equal(batch, digits.train.inputs[:4])
    with pytest.raises(ValueError, match=r"dtype must be a floating-point type, got torch\.int64"):
        digits.normalise(batch, torch.int64)


def test_normalised_training_images_have_mean_zero_and_deviation_one():
    digits = load("digits")
    values = digits.normalise(digits.train.inputs, torch.float64)
    assert abs(float(values.mean())) < 3e-4
    assert abs(float(values.std()) - 1) < 3e-4


def test_parts_are_examples():
    assert isinstance(load("digits").train, Examples)


@pytest.mark.parametrize(("name", "hint"), [("minst", "did you mean 'mnist'?"), ("imagenet", "got 'imagenet'")])
def test_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(ValueError, match=r"name must be one of .*fashion-mnist.*, got ") as error:
        load(name)
    assert hint in str(error.value)


def test_missing_root_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; root must name a folder"):
        load("mnist", tmp_path / "nowhere")
    monkeypatch.setenv("ALEATOR_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; ALEATOR_DATA must name a folder"):
        load("mnist")


def test_missing_file_is_named_with_what_to_do(tiny, tmp_path):
    (tiny.write(tmp_path) / "tiny/t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-images.*'aleator data fetch tiny --root .*' downloads it"):
        load("tiny", tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:30] + bytes([b[30] ^ 1]) + b[31:], lambda b: b""])
def test_truncated_or_altered_file_is_refused_with_both_checksums(tiny, tmp_path, damage):
    path = tiny.write(tmp_path) / "tiny/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(tiny.files[path.name]))
    with pytest.raises(ValueError, match="is truncated or altered") as error:
        load("tiny", tmp_path)
    for part in (path, hashlib.sha256(path.read_bytes()), hashlib.sha256(tiny.files[path.name])):
        assert (part.hexdigest() if hasattr(part, "hexdigest") else str(part)) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train-images-idx3-ubyte.gz", struct.pack(">2I", 0x801, 5) + bytes(5), "images must be uint8 of rank 3"),
        ("train-labels-idx1-ubyte.gz", struct.pack(">2I", 0x801, 4) + bytes(4), "labels must be 5 bytes"),
        (
            "train-labels-idx1-ubyte.gz",
            struct.pack(">2I", 0x801, 5) + b"\x0a" * 5,
            "training labels must be from 0 to 9",
        ),
        ("t10k-images-idx3-ubyte.gz", struct.pack(">4I", 0x803, 2, 4, 4) + bytes(31), "announces 32 bytes"),
    ],
)
def test_content_that_is_not_the_data_set_is_refused_even_with_the_right_checksum(
    tiny, tmp_path, name, content, reason
):
    tiny.files[name] = gzip.compress(content)
    tiny.register()
    with pytest.raises(ValueError, match=reason):
        load("tiny", tiny.write(tmp_path))


def test_cifar10h_is_what_people_saw_in_the_test_images(data_root):
    images, people = load("cifar10", data_root).test, load("cifar10h", data_root)
    assert torch.equal(people.inputs, images.inputs)
    assert people.counts.shape == (10_000, 10)
    assert int(people.counts.sum()) == 511_000
    assert (int(people.counts.sum(1).min()), int(people.counts.sum(1).max())) == (47, 63)
    shares = people.counts / people.counts.sum(1, keepdim=True)
    assert float((shares.max(1).values == 1).double().mean()) == pytest.approx(0.439, abs=5e-4)
    assert float((people.counts.argmax(1) == images.targets).double().mean()) == pytest.approx(0.9921, abs=5e-5)
    assert people.classes == load("cifar10", data_root).classes
    assert torch.equal(people.normalise(people.inputs[:2]), load("cifar10", data_root).normalise(images.inputs[:2]))


def test_cifar10h_states_its_terms():
    info = lookup("cifar10h")
    assert info.terms == "non-commercial"
    assert "non-commercial" in info.licence
    assert any("forbids commercial use" in note for note in info.notes)
    assert any("10,000 test images of cifar10" in note for note in info.notes)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.zeros((2, 10), np.int64), r"cifar10h: counts must have the shape \[10000, 10\], got \[2, 10\]"),
        (np.full((2, 10), -1), "counts must not be negative, got -1"),
        (np.zeros((2, 10)), "counts must be int64 of two dimensions"),
        (np.array([{}]), "is not an npy file"),
    ],
    ids=["rows", "negative", "float", "pickle"],
)
def test_counts_that_are_something_else_are_refused(counts, message, data_root, tmp_path):
    np.save(tmp_path / "c.npy", counts, allow_pickle=True)
    info, name = lookup("cifar10h"), lookup("cifar10h").files[0].name
    paths = {name: tmp_path / "c.npy", "data_batch_1.npz": data_root / "cifar10" / "data_batch_1.npz"}
    paths["test_batch.npz"] = data_root / "cifar10" / "test_batch.npz"
    with pytest.raises(ValueError, match=message):
        answered_images(info, paths, ())
