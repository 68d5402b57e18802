"""The catalogue: its entries are whole and can be read without torch."""

import subprocess
import sys

import pytest

from aleator.data.sets.catalog import CATALOG


@pytest.mark.parametrize("info", CATALOG.values(), ids=CATALOG)
def test_every_entry_of_the_catalogue_is_complete(info):
    assert info.title
    assert info.licence
    for file in info.files:
        assert file.urls
        assert all(url.endswith(file.name) for url in file.urls)
    for file in (*info.files, *info.mirror_files):
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 0


@pytest.mark.parametrize("info", CATALOG.values(), ids=CATALOG)
def test_only_a_kind_of_data_has_its_facts(info):
    assert (info.images is not None) == (info.kind == "images")
    assert (info.molecules is not None) == (info.kind == "molecules")
    if info.images is not None:
        assert len(info.images.mean) == len(info.images.std)


@pytest.mark.parametrize("info", [i for i in CATALOG.values() if "github" in str(i.files)], ids=lambda info: info.name)
def test_a_file_on_github_is_named_by_its_commit(info):
    for file in info.files:
        commit = file.urls[0].split("/")[5]
        assert len(bytes.fromhex(commit)) == 20


def test_the_catalogue_is_read_without_torch():
    code = "import sys, aleator.data.sets.catalog, aleator.data.sets.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
