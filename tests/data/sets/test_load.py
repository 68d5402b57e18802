"""One name gives one kind of data, whatever its form on disk."""

import dataclasses
import hashlib

import pytest

from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import RemoteFile
from aleator.data.sets.graphs import GraphSet
from aleator.data.sets.images import LabelledImages
from aleator.data.sets.load import load
from aleator.data.sets.molecules import MoleculeSet
from aleator.data.sets.texts import ParallelCorpus, TextCorpus
from aleator.data.sets.treebanks import Treebank


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits", LabelledImages),
        ("udhr2", TextCorpus),
        ("tico19", ParallelCorpus),
        ("ud-galician-treegal", Treebank),
        ("ego-small", GraphSet),
        ("zinc250k", MoleculeSet),
    ],
)
def test_a_name_gives_its_kind_of_data(mirror, name, kind):
    data = load(name)
    assert type(data) is kind
    assert data.name == name


def test_published_text_is_read_from_its_file_after_its_checksum(tmp_path, monkeypatch):
    content = "First Citizen:\n" * 20
    file = RemoteFile("input.txt", (), hashlib.sha256(content.encode()).hexdigest(), len(content))
    monkeypatch.setitem(CATALOG, "tinyshakespeare", dataclasses.replace(lookup("tinyshakespeare"), files=(file,)))
    path = tmp_path / "tinyshakespeare" / "input.txt"
    path.parent.mkdir()
    path.write_text(content)
    assert [len(load("tinyshakespeare", tmp_path).domains[0].text(split)) for split in ("train", "test")] == [270, 15]
    path.write_text(content[:-1])
    with pytest.raises(ValueError, match=r"input\.txt is truncated or altered"):
        load("tinyshakespeare", tmp_path)


def test_a_missing_text_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"en_ewt-ud-train\.conllu does not exist; 'aleator data fetch ud-"):
        load("ud-english-ewt", tmp_path)
