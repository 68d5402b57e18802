"""``aleator data``: what is printed, and the exit codes."""

import dataclasses
import hashlib

import pytest

from aleator.commands.data import fetch_data, list_data, verify_data
from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import RemoteFile


@pytest.fixture
def one_file(monkeypatch, tmp_path):
    """A catalogue of digits and a set ``one`` of one file, which no address has; gives the path of the file."""
    file = RemoteFile("one.bin", ("http://127.0.0.1:1/one.bin",), hashlib.sha256(b"right").hexdigest(), 5)
    info = dataclasses.replace(lookup("mnist"), name="one", files=(file,))
    for name in set(CATALOG) - {"digits"}:
        monkeypatch.delitem(CATALOG, name)
    monkeypatch.setitem(CATALOG, "one", info)
    monkeypatch.setenv("ALEATOR_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "one").mkdir()
    return tmp_path / "one" / "one.bin"


def test_list_says_what_is_here_one_line_each(one_file, capsys):
    assert list_data() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "digits", "one"]
    here = lines[0].index("here")
    assert [line[here:].split()[0] for line in lines[1:]] == ["embedded", "no"]
    one_file.write_bytes(b"right")
    list_data()
    assert capsys.readouterr().out.splitlines()[2][here:].startswith("yes")


def test_list_tells_a_part_from_the_whole(data_root, monkeypatch, capsys):
    monkeypatch.setenv("ALEATOR_DATA", str(data_root))
    list_data()
    cifar = next(line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "cifar10")
    assert "in part" in cifar
    assert "none stated" in cifar


def test_list_works_where_the_root_does_not_exist(one_file, monkeypatch, capsys):
    monkeypatch.setenv("ALEATOR_DATA", "/nowhere/at/all")
    assert list_data() == 0


def test_listing_on_a_terminal_is_a_table(one_file, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    assert list_data() == 0
    assert "┃" in capsys.readouterr().out


def test_verify_passes_when_every_file_is_right(one_file, capsys):
    one_file.write_bytes(b"right")
    assert verify_data() == verify_data("one") == 0
    assert f"ok      {one_file}" in capsys.readouterr().out


def test_verify_fails_on_an_altered_file_and_prints_both_checksums(one_file, capsys):
    one_file.write_bytes(b"wrong")
    assert verify_data() == verify_data("one") == 1
    out = capsys.readouterr().out
    assert f"altered  {one_file}" in out
    assert hashlib.sha256(b"right").hexdigest() in out
    assert hashlib.sha256(b"wrong").hexdigest() in out


def test_missing_file_fails_only_the_data_set_asked_for(one_file, capsys):
    assert verify_data() == 0
    assert f"missing  {one_file}" in capsys.readouterr().out
    assert verify_data("one") == 1


def test_embedded_set_has_nothing_to_verify_or_download(one_file, capsys):
    assert verify_data("digits") == fetch_data("digits") == 0
    assert capsys.readouterr().out.count("embedded") == 2


def test_fetch_leaves_a_right_file_alone(one_file, capsys):
    one_file.write_bytes(b"right")
    assert fetch_data("one") == 0
    assert capsys.readouterr().out == f"{one_file}: already there, checksum right\n"


def test_failed_download_is_exit_code_1_and_one_line(one_file, capsys):
    assert fetch_data("one") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"no address gave {one_file}" in err


def test_unknown_name_is_left_to_the_door(one_file):
    for verb in (fetch_data, verify_data):
        with pytest.raises(ValueError, match="name must be one of digits, one, got 'two'"):
            verb("two")
