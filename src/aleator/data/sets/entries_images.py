"""The entries of the sets of images, labelled once or by many: files with checksums, classes, mean and deviation."""

from __future__ import annotations

from aleator.data.sets.entries import DatasetInfo, ImageFacts, RemoteFile

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

DIGITS = DatasetInfo(
    name="digits",
    title="handwritten digits, 8x8 grey, 1,437 + 360 images",
    kind="images",
    reader="digits",
    files=(),
    licence="CC BY 4.0",
    terms="open",
    images=ImageFacts(_TEN_DIGITS, mean=(0.3055,), std=(0.3758,), max_value=16),
    notes=(
        "The test part of the UCI set Optical Recognition of Handwritten Digits, embedded in scikit-learn.",
        "The split is ours: one fixed permutation, of which the last 360 are the test set.",
    ),
)

MNIST = DatasetInfo(
    name="mnist",
    title="handwritten digits, 28x28 grey, 60,000 + 10,000 images",
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
    images=ImageFacts(_TEN_DIGITS, mean=(0.1307,), std=(0.3081,)),
    notes=("The licence is the one usually stated; Y. LeCun and C. Cortes hold the copyright.",),
)

FASHION_MNIST = DatasetInfo(
    name="fashion-mnist",
    title="clothing, 28x28 grey, 60,000 + 10,000 images",
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
    images=ImageFacts(
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
    ),
)

CIFAR10 = DatasetInfo(
    name="cifar10",
    title="animals and vehicles, 32x32 colour, 50,000 + 10,000 images",
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
    images=ImageFacts(
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
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

CIFAR10H = DatasetInfo(
    name="cifar10h",
    title="what people see in CIFAR-10's test images: 511,000 answers to 10,000 images",
    kind="responses",
    reader="votes",
    files=(
        RemoteFile(
            "cifar10h-counts.npy",
            (
                "https://raw.githubusercontent.com/jcpeterson/cifar-10h/48da312b193b82e6939ec20f23d1f09cbdd849c8/data/"
                "cifar10h-counts.npy",
            ),
            "9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff",
            800_128,
        ),
    ),
    licence="CC BY-NC-SA 4.0, non-commercial",
    terms="non-commercial",
    inputs_from="cifar10",
    notes=(
        "The licence CC BY-NC-SA 4.0 forbids commercial use.",
        "The images are the 10,000 test images of cifar10, fetched by that name; there is no training part.",
        "Cite J. C. Peterson et al., Human uncertainty makes classification more robust, ICCV 2019.",
    ),
)
