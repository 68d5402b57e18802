"""What `load`, `fetch` and `verify` know about each data set: addresses, checksums, terms. No code runs from here.

An entry names its files, each with the SHA-256 of the exact bytes, and its ``reader``, the one in `aleator.data.images`
that turns the files into arrays. A local mirror may hold a set in another form, with checksums of its own; what that
form lacks is said in ``mirror_lacks``.

To add a data set: an entry here, and, for a new file format, a reader in `aleator.data.readers` and its line in
``images._READERS``. To add another kind of data (text, graphs): a new value of `Kind`, and a module beside
`aleator.data.images` whose load function returns that kind's dataclass. This module imports nothing heavy, so that data
sets can be listed without loading torch.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

Kind = Literal["images"]
Reader = Literal["digits", "idx", "cifar"]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        name: the file's name, the same at every address and on disk.
        urls: where it can be had, tried in this order. Empty for a file that only a local mirror has.
        sha256: the checksum of the whole file, 64 hexadecimal digits.
        size: its length in bytes.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


@dataclass(frozen=True)
class DatasetInfo:
    """One data set.

    Attributes:
        name: what `load` calls it, and the name of its folder under a data root.
        title: what it is, for a listing, with the numbers of training and test examples.
        kind: what sort of data it is.
        reader: which reader of `aleator.data.images` understands its files.
        files: the files as their authors publish them. Empty for a set that comes with a dependency.
        licence: the licence as the authors state it.
        terms: ``"open"`` or ``"not stated"``.
        classes: the names of the labels, in order.
        mean: mean of each channel over the training images, divided by ``max_value``.
        std: standard deviation of the same.
        max_value: the largest value an input can have.
        mirror_files: the form in which a local mirror may hold the set instead.
        mirror_lacks: what that form leaves out; empty when it is whole.
        notes: what a user should know, one sentence each.
    """

    name: str
    title: str
    kind: Kind
    reader: Reader
    files: tuple[RemoteFile, ...]
    licence: str
    terms: Literal["open", "not stated"]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: int = 255
    mirror_files: tuple[RemoteFile, ...] = ()
    mirror_lacks: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to download; 0 for a set that comes with a dependency."""
        return sum(file.size for file in self.files)


# The four files of MNIST and of every set that follows it, in the order in which `_idx_files` takes their checksums.
_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_files(bases: tuple[str, ...], *checksums: tuple[str, int]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(name, tuple(base + name for base in bases), sha256, size)
        for name, (sha256, size) in zip(_IDX_NAMES, checksums, strict=True)
    )


_TEN_DIGITS = tuple("0123456789")

_DIGITS = DatasetInfo(
    name="digits",
    title="handwritten digits, 8x8 grey, 1,437 + 360",
    kind="images",
    reader="digits",
    files=(),
    licence="CC BY 4.0",
    terms="open",
    classes=_TEN_DIGITS,
    mean=(0.3055,),
    std=(0.3758,),
    max_value=16,
    notes=(
        "The test part of the UCI set Optical Recognition of Handwritten Digits, embedded in scikit-learn.",
        "The split is ours: one fixed permutation, of which the last 360 are the test set.",
    ),
)

_MNIST = DatasetInfo(
    name="mnist",
    title="handwritten digits, 28x28 grey, 60,000 + 10,000",
    kind="images",
    reader="idx",
    files=_idx_files(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
    licence="CC BY-SA 3.0",
    terms="open",
    classes=_TEN_DIGITS,
    mean=(0.1307,),
    std=(0.3081,),
    notes=("The licence is the one usually stated; Y. LeCun and C. Cortes hold the copyright.",),
)

_FASHION_MNIST = DatasetInfo(
    name="fashion-mnist",
    title="clothing, 28x28 grey, 60,000 + 10,000",
    kind="images",
    reader="idx",
    files=_idx_files(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
    licence="MIT",
    terms="open",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mean=(0.2860,),
    std=(0.3530,),
)

_CIFAR10 = DatasetInfo(
    name="cifar10",
    title="animals and vehicles, 32x32 colour, 50,000 + 10,000",
    kind="images",
    reader="cifar",
    files=(
        RemoteFile(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            170_498_071,
        ),
    ),
    licence="none stated",
    terms="not stated",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    mirror_files=(
        RemoteFile(
            "data_batch_1.npz", (), "ec71b38ae78742edfc67c88b9349227f2af5bb64ed87ba27355121c2f000f6b6", 28_313_387
        ),
        RemoteFile(
            "test_batch.npz", (), "111fb25bb022d2ffa24aed4a0badd3830fc448878dff664fbb1f43a3b3e7daa7", 28_308_407
        ),
    ),
    mirror_lacks="only training batch 1 of 5 (10,000 of 50,000 training images); the test set is whole",
    notes=("Cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.",),
)

CATALOG: dict[str, DatasetInfo] = {info.name: info for info in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10)}


def lookup(name: str) -> DatasetInfo:
    """Return the entry of a data set.

    Raises:
        ValueError: if no data set has this name.
    """
    if name in CATALOG:
        return CATALOG[name]
    near = difflib.get_close_matches(name, CATALOG, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"name must be one of {', '.join(CATALOG)}, got {name!r}{hint}")
