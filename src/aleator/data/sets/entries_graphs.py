"""The entries of the graphs and molecules: files at fixed commits, and the form in which a local mirror may hold them.

The addresses point to the repositories that the mirror was made from; the checksums of the published files are of the
git objects at those commits. A mirror holds all graphs in the folder ``graphs`` and all molecules in ``molecules``.
"""

from __future__ import annotations

from aleator.data.sets.entries import DatasetInfo, MoleculeFacts, RemoteFile

_GDSS = "https://raw.githubusercontent.com/harryjo97/GDSS/24cc490e0c5b39cbd265fda33ab2bc8b528d4454/"
_JTNN = "https://raw.githubusercontent.com/wengong-jin/icml18-jtnn/d4c425a8a28fce7d0e8f5da741d27d3fce4a7ec0/"
_IDP = (
    "https://raw.githubusercontent.com/sancar17/IDP-Inverse-Design-for-Molecules/"
    "da0a375b9218947a18446fd91a760a75e7ee035b/"
)
_SPLIT = "The first fifth of the graphs is the test set, the rest trains, as published."


def _graphs(name: str, title: str, note: str, published: tuple[str, int], mirrored: tuple[str, int]) -> DatasetInfo:
    """Return the entry of a set that is published as one pickle of networkx graphs."""
    file = name.replace("-", "_")
    return DatasetInfo(
        name=name,
        title=title,
        kind="graphs",
        reader="networkx",
        files=(RemoteFile(f"{file}.pkl", (f"{_GDSS}data/{file}.pkl",), *published),),
        licence="none stated",
        terms="not stated",
        mirror_files=(RemoteFile(f"{file}.json.gz", (), *mirrored),),
        mirror_folder="graphs",
        notes=(note, _SPLIT),
    )


COMMUNITY_SMALL = _graphs(
    "community-small",
    "two communities, synthetic, 100 graphs of 12 to 20 nodes",
    "Of the 100 graphs 53 are different: the published set repeats itself.",
    ("ee0390de8ca9855e40b3a81cf0a84bfd0114a9a42ace369eb08a925e4d988157", 58_838),
    ("c16945cb34ef717482cf4a3e58b05d23ae152e8b35fd4cf2376947acb46e4ac0", 958),
)

EGO_SMALL = _graphs(
    "ego-small",
    "neighbourhoods in the Citeseer citations, 200 graphs of 4 to 17 nodes",
    "The MMD of its own training and test parts is as large as the best published figures: it ranks no better models.",
    ("eb1af8c3094929748a67b75c4f33ad364c1361d711c0fe14fa8c4d1681918dba", 46_040),
    ("3b6da1b54bb6e506fe43239332addfa1e29634d1dafb9aa069bfcda8537bfd04", 1_931),
)

GRID = _graphs(
    "grid",
    "two-dimensional grids, synthetic, 100 graphs of 110 to 361 nodes",
    "Grids have no triangles: their clustering coefficients are all 0.",
    ("1c533398435301faaa1282993e1738069cafcc5e7662b284a3dba23cee680104", 671_278),
    ("a4070ab7a3e71cb7ca74924b9c68958f245a23be3983a93673a53749f0bf79df", 33_942),
)

ENZYMES = DatasetInfo(
    name="enzymes",
    title="protein structures in 6 classes of enzymes, 587 graphs of 10 to 125 nodes",
    kind="graphs",
    reader="tu",
    files=tuple(
        RemoteFile(f"ENZYMES_{part}.txt", (f"{_GDSS}dataset/ENZYMES/ENZYMES_{part}.txt",), sha256, size)
        for part, sha256, size in (
            ("A", "5553c84f8f562f3e199dfd27192174f485e85c44c1357661098668937a739cbf", 885_124),
            ("graph_indicator", "95ba0fa47eba6f02e6b754a215dc66d5b49de3f45f57a128514301a8d7ed5f46", 74_914),
            ("graph_labels", "04743e08967e61e65cdacbb90f8df6ee53742b3d2e7b84675b85ebac70506856", 1_200),
            ("node_labels", "8263eb9b64efa231a5886343483ccfc0342f2407014763a8f738fd51c32ce770", 39_160),
        )
    ),
    licence="none stated",
    terms="not stated",
    mirror_files=(
        RemoteFile("enzymes.json.gz", (), "552affa4b5caec1bb6be4b14ae5fef39e502548a5db5dc1e89c841658ef5f139", 52_227),
    ),
    mirror_folder="graphs",
    notes=(
        "Isolated nodes are dropped, and then the 13 graphs of fewer than 10 nodes.",
        _SPLIT,
        "Cite K. Borgwardt et al., Protein function prediction via graph kernels, 2005; I. Schomburg et al., BRENDA, "
        "the enzyme database, 2004.",
    ),
)

QM9 = DatasetInfo(
    name="qm9",
    title="organic molecules of at most 9 heavy atoms, 107,460 + 11,939 SMILES",
    kind="molecules",
    reader="smiles",
    files=(
        RemoteFile(
            "qm9_smiles.txt",
            (f"{_IDP}data/qm9_smiles.txt",),
            "7bf1716051c3892501f8112ebbb5dc56f11538cf3401cbe3e5d1219eae59eece",
            2_725_619,
        ),
    ),
    licence="none stated",
    terms="not stated",
    molecules=MoleculeFacts(elements=("C", "N", "O", "F"), max_atoms=9),
    mirror_files=(
        RemoteFile(
            "qm9_smiles.txt.gz", (), "1d3479cb78dca1ca173abe3f03d5786463a146ad99f06ba9429217c7fd51f8c5", 648_021
        ),
    ),
    mirror_folder="molecules",
    mirror_lacks="a shuffled part, 119,399 of QM9's 133,885 molecules, without properties; as is the file upstream",
    notes=(
        "The split is ours: one permutation that never changes, of which the last tenth is the test set. The published "
        "list of test molecules counts lines of another file.",
        "Cite R. Ramakrishnan et al., Quantum chemistry structures and properties of 134 kilo molecules, 2014.",
    ),
)

ZINC250K = DatasetInfo(
    name="zinc250k",
    title="drug-like molecules of at most 38 heavy atoms, 24,445 + 5,000 SMILES",
    kind="molecules",
    reader="smiles",
    files=(
        RemoteFile(
            "valid.txt",
            (f"{_JTNN}data/zinc/valid.txt",),
            "ad7d9c2bfebd93ffda6c32ed0e89d1714ae1f592f6340c0e6ae057521bbae30d",
            1_106_144,
        ),
        RemoteFile(
            "test.txt",
            (f"{_JTNN}data/zinc/test.txt",),
            "31f6ce92914814db33bf0dbfc45f3836193e27cb80a59c54d88bc05a1f5fab83",
            225_615,
        ),
    ),
    licence="none stated",
    terms="not stated",
    molecules=MoleculeFacts(elements=("C", "N", "O", "F", "P", "S", "Cl", "Br", "I"), max_atoms=38),
    mirror_files=(
        RemoteFile(
            "zinc250k_valid.txt.gz", (), "44a6172a1d957939e3c9883728510b272e26ee133d0a9d959c19e81458855a47", 281_081
        ),
        RemoteFile(
            "zinc250k_test.txt.gz", (), "b990543f30874e219215f348331bc0c3241fe368433d4889c7dd3aaf75c6b82c", 58_332
        ),
    ),
    mirror_folder="molecules",
    mirror_lacks="no training part (about 220,000 molecules), nor have the files upstream; the validation part trains",
    notes=(
        "The parts are as in W. Jin et al., Junction Tree Variational Autoencoder, 2018.",
        "ZINC is free to use; see its site before redistributing large parts.",
    ),
)
