"""Readers of the original file formats: text, idx (MNIST), CIFAR-10 as published and as arrays in an npz file.

An idx file is a big-endian header, the bytes ``0 0 type rank`` and then one 32-bit size per dimension, followed by the
values. CIFAR-10 as published is a gzipped tar of Python 2 pickles. A pickle is a program, so it is never given to a
general unpickler: `_BatchUnpickler` resolves three names, ``_reconstruct``, ``ndarray`` and ``dtype`` of NumPy, to
stand-ins that accept an array of bytes and nothing else, and refuses every other name without importing it.

A reader checks that a file is what its format says, and raises ``ValueError`` with the file's path when it is not: cut
short, encrypted, compressed in an unknown way, full of absurd numbers, or larger unpacked than memory.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import math
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray

# The types of the idx format; its numbers are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


class LabelledArrays(NamedTuple):
    """Images, uint8 of shape [N, C, H, W], and their labels, int64 of shape [N]."""

    images: UInt8[np.ndarray, "n channel height width"]
    labels: Int64[np.ndarray, " n"]


@contextlib.contextmanager
def refusing(path: object, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what a decompressor or parser makes of a file that is not of its format into one line.

    Args:
        path: what the line calls the file.
        what: what the file should be.
        errors: of the parser, besides the errors of decompressors.

    Raises:
        ValueError: for such a file, and for one that does not fit into memory.
    """
    # Encryption is a RuntimeError of zipfile, an unknown compression a NotImplementedError, too deep a nesting a
    # RecursionError: all of one family.
    refused: tuple[type[Exception], ...] = (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OverflowError),
        *errors,
    )
    try:
        yield
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory") from None
    except refused as error:
        raise ValueError(f"{path} is not {what}: {error}") from None
    except OSError as error:
        if error.errno is not None:  # not of the decompressor but of the system
            raise
        raise ValueError(f"{path} is not {what}: {error}") from None


def read_text(path: Path) -> str:
    """Read a UTF-8 text, gzipped if its name ends in ``.gz``; line ends stay as they are.

    Raises:
        ValueError: if the file is not UTF-8, or not a whole gzip file.
    """
    with refusing(path, "a whole gzip file"):
        if path.suffix != ".gz":
            return decode_text(path.read_bytes(), path)
        with gzip.open(path) as stream:
            return decode_text(stream.read(), path)


def decode_text(content: bytes, source: object) -> str:
    """Return the text that UTF-8 bytes from ``source`` stand for.

    Raises:
        ValueError: if they are not UTF-8; the message says where.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(f"{source} must be UTF-8, got 0x{byte:02x} at byte {error.start}: {error.reason}") from None


def read_idx(path: Path) -> NDArray[Any]:
    """Read one gzipped idx file.

    Returns:
        The array, with the shape and the type of the file's header, in native byte order.

    Raises:
        ValueError: if the file is not gzip, its header is not an idx header, or its length is not what the header says.
    """
    with refusing(path, "a whole gzip file"), gzip.open(path) as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or magic[3] == 0:
            raise ValueError(f"{path} is not an idx file: it starts with the bytes {magic.hex(' ') or '(none)'}")
        sizes = stream.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise ValueError(f"{path} ends inside its idx header")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        dtype = np.dtype(_IDX_TYPES[magic[2]])
        expected = math.prod(shape) * dtype.itemsize
        # In pieces: the header's sizes are not to be trusted with one allocation.
        content = bytearray()
        while len(content) <= expected and (chunk := stream.read(_CHUNK)):
            content += chunk
    if len(content) != expected:
        found = "more" if len(content) > expected else f"{len(content)}"
        raise ValueError(f"{path}: the idx header {shape} announces {expected} bytes of data, found {found}")
    with refusing(path, "an idx file", ValueError):
        array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_cifar_npz(path: Path) -> LabelledArrays:
    """Read one CIFAR-10 batch kept as an npz file with the arrays ``x`` [N, 32, 32, 3] and ``y`` [N], both uint8.

    Raises:
        ValueError: if the file is not an npz file, holds pickles, or lacks one of the arrays.
    """
    what = "an npz file with the arrays x and y"
    with refusing(path, what, KeyError, TypeError, AttributeError, ValueError):
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            raise ValueError("one of them is no array")
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != (32, 32, 3):
        raise ValueError(f"{path}: x must be uint8 of shape [N, 32, 32, 3], got {x.dtype} {list(x.shape)}")
    if y.dtype != np.uint8 or y.shape != x.shape[:1]:
        raise ValueError(f"{path}: y must be uint8 of shape [{len(x)}], got {y.dtype} {list(y.shape)}")
    return LabelledArrays(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y.astype(np.int64))


def read_counts(path: Path) -> NDArray[np.int64]:
    """Read an npy file with a table of counts, int64 of two dimensions.

    Raises:
        ValueError: if the file is not an npy file, holds pickles, or a count is negative.
    """
    try:
        counts = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is not an npy file: {error}") from None
    if not isinstance(counts, np.ndarray) or counts.dtype != np.int64 or counts.ndim != 2:
        raise ValueError(f"{path}: counts must be int64 of two dimensions")
    if counts.size and counts.min() < 0:
        raise ValueError(f"{path}: counts must not be negative, got {counts.min()}")
    return counts


def read_cifar_archive(path: Path) -> tuple[LabelledArrays, LabelledArrays]:
    """Read ``cifar-10-python.tar.gz``: the training images (five batches, in order) and the test images.

    Nothing is extracted to disk and no code from the file runs.

    Raises:
        ValueError: if the file is not a gzipped tar, a batch is missing, or a batch is anything but plain data.
    """
    wanted = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    batches: dict[str, LabelledArrays] = {}
    with refusing(path, "a whole tar.gz file"), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in wanted and member.isfile():
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file has one
                batches[name] = _read_batch(stream.read(), f"{path}: {name}")
    if missing := [name for name in wanted if name not in batches]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    train = [batches[name] for name in wanted[:-1]]
    images = np.concatenate([batch.images for batch in train])
    return LabelledArrays(images, np.concatenate([batch.labels for batch in train])), batches["test_batch"]


def _read_batch(content: bytes, source: str) -> LabelledArrays:
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise almost anything; no code of its own has run
        raise ValueError(f"{source} is not a CIFAR-10 batch: {error}") from None
    data, labels = (batch.get(key) for key in (b"data", b"labels")) if isinstance(batch, dict) else (None, None)
    if not isinstance(data, _Array) or data.value.ndim != 2 or data.value.shape[1] != 3 * 32 * 32:
        raise ValueError(f"{source} has no array of 3 x 32 x 32 bytes per image")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise ValueError(f"{source} has no list of labels from 0 to 9")
    if len(labels) != len(data.value):
        raise ValueError(f"{source} has {len(data.value)} images and {len(labels)} labels")
    return LabelledArrays(data.value.reshape(-1, 3, 32, 32), np.array(labels, np.int64))


class _Dtype:
    """Stands in for ``numpy.dtype`` while a batch is read: only unsigned bytes."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of type {code!r} is not allowed, only bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing for bytes."""


class _Array:
    """Stands in for an array, and for ``_reconstruct`` that makes one, while a batch is read: only bytes."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[np.uint8] = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take (version, shape, dtype, column order, content), the state that NumPy writes."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or type(content) is not bytes:
            raise pickle.UnpicklingError("an array must be made of bytes")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C").copy("C")


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _BatchUnpickler(pickle.Unpickler):
    """Reads plain containers, strings and numbers, and arrays of bytes; every other class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name; the name itself is never imported."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]
