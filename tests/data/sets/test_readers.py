"""The readers give back what was written, byte for byte, and refuse what is not their format."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aleator.data.sets import graphs, text_readers
from aleator.data.sets.readers import decode_text, read_cifar_archive, read_cifar_npz, read_idx, read_text

IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def idx_bytes(array):
    header = bytes([0, 0, IDX_CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_gzip(path, content):
    path.write_bytes(gzip.compress(content, compresslevel=1))
    return path


def python2_batch(images, labels, label, names):
    """A CIFAR-10 batch in the layout of the published files: protocol 2 as Python 2's cPickle wrote it."""
    count = 0

    def memo():
        nonlocal count
        count += 1
        return b"q" + bytes([count]) if count < 256 else b"r" + struct.pack("<I", count)

    def string(value):
        return b"U" + bytes([len(value)]) + value + memo()

    def items(values, write):  # cPickle appends a thousand at a time
        out = [b"]" + memo()]
        for start in range(0, len(values), 1000):
            out += [b"(", *(write(value) for value in values[start : start + 1000]), b"e"]
        return b"".join(out)

    content = images.tobytes()
    shape = b"M" + struct.pack("<H", len(images)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    parts = [b"\x80\x02}" + memo() + b"("]
    parts += [string(b"batch_label"), string(label)]
    parts += [string(b"labels"), items(labels, lambda value: b"K" + bytes([value]))]
    parts += [string(b"data"), b"cnumpy.core.multiarray\n_reconstruct\n" + memo(), b"cnumpy\nndarray\n" + memo()]
    parts += [b"K\x00\x85U\x01b\x87R" + memo(), b"(K\x01" + shape, b"cnumpy\ndtype\n" + memo()]
    parts += [b"U\x02u1K\x00K\x01\x87R" + memo(), b"(K\x03U\x01|NNNJ" + b"\xff" * 4 + b"J" + b"\xff" * 4 + b"K\x00tb"]
    parts += [b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"]
    parts += [string(b"filenames"), items(names, string), b"u."]
    return b"".join(parts)


def small_batch(seed, n=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3, 32, 32), np.uint8), rng.integers(0, 10, n).tolist()


def write_archive(path, members):
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def good_members():
    return {
        name: python2_batch(images, labels, b"a label", [b"a.png"] * len(labels))
        for name, (images, labels) in ((name, small_batch(seed)) for seed, name in enumerate(BATCHES))
    }


@given(
    array=st.sampled_from(sorted(IDX_CODES)).flatmap(
        lambda name: npst.arrays(name, npst.array_shapes(max_dims=4, max_side=5))
    )
)
def test_idx_file_gives_back_the_array_it_was_written_from(tmp_path_factory, array):
    path = write_gzip(tmp_path_factory.getbasetemp() / "array.gz", idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


IDX = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an idx file"),
        (b"\1" + IDX[1:], "starts with the bytes 01 00 08 03"),
        (IDX[:2] + b"\x07" + IDX[3:], "not an idx file"),
        (IDX[:3] + b"\0" + IDX[4:], "not an idx file"),
        (IDX[:9], "ends inside its idx header"),
        (IDX[:-1], "announces 24 bytes of data, found 23"),
        (IDX + b"!", "announces 24 bytes of data, found more"),
        (IDX[:4] + b"\xff" * 12 + IDX[16:], "found 24"),  # sizes nobody has the memory for
    ],
)
def test_idx_header_that_does_not_fit_its_content_is_refused(tmp_path, content, reason):
    path = write_gzip(tmp_path / "bad-idx.gz", content)
    with pytest.raises(ValueError, match=reason) as error:
        read_idx(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:20] + b"\xff" * 8 + b[28:], lambda b: b"no gzip"])
def test_damaged_gzip_is_refused_with_the_files_name(tmp_path, damage):
    path = tmp_path / "bad.gz"
    path.write_bytes(damage(gzip.compress(IDX * 10)))
    with pytest.raises(ValueError, match=r"bad\.gz is not a whole gzip file"):
        read_idx(path)


def test_npz_batch_becomes_channels_first(tmp_path):
    images, labels = small_batch(0)
    path = tmp_path / "batch.npz"
    np.savez(path, x=images.transpose(0, 2, 3, 1), y=np.array(labels, np.uint8))
    read = read_cifar_npz(path)
    np.testing.assert_array_equal(read.images, images)
    assert read.labels.tolist() == labels


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((2, 32, 32, 3), np.uint8)},
        {"x": np.zeros((2, 3, 32, 32), np.uint8), "y": np.zeros(2, np.uint8)},
        {"x": np.zeros((2, 32, 32, 3)), "y": np.zeros(2, np.uint8)},
        {"x": np.zeros((2, 32, 32, 3), np.uint8), "y": np.zeros(3, np.uint8)},
        {"x": np.array([{}, {}]), "y": np.zeros(2, np.uint8)},  # needs a pickle
    ],
)
def test_npz_without_the_right_arrays_is_refused(tmp_path, arrays):
    path = tmp_path / "batch.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"batch\.npz"):
        read_cifar_npz(path)


def test_what_is_no_npz_file_is_refused(tmp_path):
    path = tmp_path / "batch.npz"
    for content in (b"", b"PK\3\4 not a zip file", pickle.dumps({"x": 1})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"batch\.npz is not an npz file"):
            read_cifar_npz(path)


def test_archive_gives_the_five_batches_in_order_and_the_test_batch(tmp_path):
    members = good_members()
    shuffled = {name: members[name] for name in reversed(BATCHES)} | {"batches.meta": b"not read", "readme.html": b""}
    train, test = read_cifar_archive(write_archive(tmp_path / "c.tar.gz", shuffled))
    batches = [small_batch(seed) for seed in range(6)]
    np.testing.assert_array_equal(train.images, np.concatenate([images for images, _ in batches[:5]]))
    assert train.labels.tolist() == [label for _, labels in batches[:5] for label in labels]
    np.testing.assert_array_equal(test.images, batches[5][0])
    assert test.labels.tolist() == batches[5][1]


@pytest.mark.parametrize("protocol", [3, 4])
def test_batch_pickled_by_todays_python_is_read_the_same(tmp_path, protocol):
    images, labels = small_batch(5)
    batch = pickle.dumps({b"data": images.reshape(3, -1), b"labels": labels}, protocol=protocol)
    _, test = read_cifar_archive(write_archive(tmp_path / "c.tar.gz", good_members() | {"test_batch": batch}))
    np.testing.assert_array_equal(test.images, images)


def test_published_test_batch_is_read_as_the_mirrors_arrays(data_root, tmp_path):
    with np.load(data_root / "cifar10/test_batch.npz", allow_pickle=False) as mirror:
        x, y, names = mirror["x"], mirror["y"], mirror["filenames"]
    images = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    published = python2_batch(images, y.tolist(), b"testing batch 1 of 1", [bytes(name) for name in names])
    # The md5 of test_batch inside cifar-10-python.tar.gz, as torchvision documents it: this is the published file.
    assert hashlib.md5(published).hexdigest() == "40351d587109b95175f43aff81a1287e"
    _, test = read_cifar_archive(write_archive(tmp_path / "c.tar.gz", good_members() | {"test_batch": published}))
    np.testing.assert_array_equal(test.images, images)
    np.testing.assert_array_equal(test.labels, y)


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, np.load, np.dtype("u1").newbyteorder, pickle.loads])
def test_pickle_that_calls_a_function_is_refused_and_the_function_is_not_called(tmp_path, function, protocol):
    target = tmp_path / "called"
    batch = pickle.dumps({b"data": Malicious(function, f"touch {target}"), b"labels": []}, protocol=protocol)
    path = write_archive(tmp_path / "c.tar.gz", good_members() | {"data_batch_3": batch})
    with pytest.raises(ValueError, match=r"data_batch_3 is not a CIFAR-10 batch: it asks for .*, which is refused"):
        read_cifar_archive(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "no array of 3 x 32 x 32 bytes"),
        ({b"labels": [1]}, "no array of 3 x 32 x 32 bytes"),
        ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [1, 2]}, "no array of 3 x 32 x 32 bytes"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]}, "only bytes"),
        ({b"data": np.array([[{}] * 3072]), b"labels": [1]}, "only bytes"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "2 images and 1 labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}, "labels from 0 to 9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, True]}, "labels from 0 to 9"),
    ],
)
def test_pickle_of_something_else_is_refused(tmp_path, content, reason):
    members = good_members() | {"test_batch": pickle.dumps(content, protocol=4)}
    with pytest.raises(ValueError, match=f"test_batch.*{reason}"):
        read_cifar_archive(write_archive(tmp_path / "c.tar.gz", members))


@pytest.mark.parametrize("length", [0, 1, 60, 400, -1])
def test_truncated_pickle_is_refused(tmp_path, length):
    members = good_members()
    members["test_batch"] = members["test_batch"][:length]
    with pytest.raises(ValueError, match="test_batch is not a CIFAR-10 batch"):
        read_cifar_archive(write_archive(tmp_path / "c.tar.gz", members))


def test_archive_without_a_batch_is_refused(tmp_path):
    members = good_members()
    del members["data_batch_4"]
    with pytest.raises(ValueError, match=r"lacks data_batch_4"):
        read_cifar_archive(write_archive(tmp_path / "c.tar.gz", members))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no gzip", lambda b: b""])
def test_damaged_archive_is_refused(tmp_path, damage):
    path = write_archive(tmp_path / "c.tar.gz", good_members())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"c\.tar\.gz is not a whole tar\.gz file"):
        read_cifar_archive(path)


@given(st.text())
def test_text_is_read_back_as_it_was_written_plain_or_gzipped(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    (folder / "a.txt").write_bytes(text.encode())
    write_gzip(folder / "a.txt.gz", text.encode())
    assert read_text(folder / "a.txt") == read_text(folder / "a.txt.gz") == text


def test_what_is_not_utf_8_is_refused_with_the_byte():
    with pytest.raises(ValueError, match=r"^here must be UTF-8, got 0xe9 at byte 3: invalid continuation byte$"):
        decode_text("caf\xe9 au lait".encode("latin-1"), "here")


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"no gzip"])
def test_damaged_gzip_text_is_refused(tmp_path, damage):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(b"a text")))
    with pytest.raises(ValueError, match=r"a\.txt\.gz is not a whole gzip file"):
        read_text(path)


# --- hostile files ------------------------------------------------------------------------------------------------


def encrypted(path):
    """An archive whose member says that it is encrypted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("all.tmx", "<tmx/>")
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)


def compressed_in_an_unknown_way(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("all.tmx", "<tmx/>")
    content = bytearray(path.read_bytes())
    for start, method in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(start) + method] = 77
    path.write_bytes(content)


@pytest.mark.parametrize("make", [encrypted, compressed_in_an_unknown_way])
def test_an_archive_that_cannot_be_unpacked_is_one_line(tmp_path, make):
    path = tmp_path / "hostile.zip"
    make(path)
    with pytest.raises(ValueError, match=r"hostile\.zip is not a whole zip archive: "):
        text_readers._unzip(path, ".tmx")
    with pytest.raises(ValueError, match=r"hostile\.zip is not an npz file with the arrays x and y"):
        read_cifar_npz(path)


def test_an_npz_file_of_absurd_size_is_one_line(tmp_path):
    path = tmp_path / "hostile.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999, 99999), }"
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match=r"hostile\.npz (does not fit into memory|is not an npz file)"):
        read_cifar_npz(path)


def test_an_npz_file_that_holds_no_arrays_is_one_line(tmp_path):
    path = tmp_path / "hostile.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"text")
        archive.writestr("y", b"text")
    with pytest.raises(ValueError, match=r"is not an npz file with the arrays x and y"):
        read_cifar_npz(path)


@pytest.mark.parametrize("sizes", [[0, 2**32 - 1, 2**32 - 1, 2**32 - 1], [1] * 70])
def test_an_idx_file_of_absurd_shape_is_one_line(tmp_path, sizes):
    path = tmp_path / "hostile.gz"
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(gzip.compress(header + (b"" if 0 in sizes else b"x")))
    with pytest.raises(ValueError, match=r"hostile\.gz is not an idx file"):
        read_idx(path)


@pytest.mark.parametrize("number", ["9" * 40, "-1", "1e400"])
def test_absurd_numbers_in_a_list_of_graphs_are_one_line(tmp_path, number):
    path = tmp_path / "hostile.json"
    path.write_text(f'{{"graphs": [{{"n": 3, "edges": [[0, {number}]]}}]}}')
    with pytest.raises(ValueError, match=r"hostile\.json is not a list of graphs: "):
        graphs._read_json(path)


def test_nesting_that_is_too_deep_is_one_line(tmp_path):
    path = tmp_path / "hostile.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"hostile\.json is not a list of graphs: "):
        graphs._read_json(path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_bomb_above_the_memory_limit_is_one_line(tmp_path):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(192):
            stream.write(bytes(1 << 20))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
        try:
            read_text(path)
            said = b"it was read"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}".encode()
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode() == f"ValueError: {path} does not fit into memory"
    os.close(reader)
