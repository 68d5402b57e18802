import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.experiment.files import finite, read_json, write_json, write_text


def test_json_round_trip_bears_the_schema_version(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"x": [1.5, "ü", None]})
    assert read_json(tmp_path / "deep" / "a.json") == {"schema_version": 1, "x": [1.5, "ü", None]}


def test_failed_write_leaves_the_good_file_and_no_other(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "good")

    def full_disk(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_text(tmp_path / "a.txt", "half")
    assert (tmp_path / "a.txt").read_text() == "good"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_files_are_readable_by_others_as_the_umask_says(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "plain.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@given(
    st.recursive(st.floats() | st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_finite_makes_anything_json_and_keeps_what_is_finite(value):
    made = finite(value)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert finite(made) == made


@pytest.mark.parametrize("content", ["{", '{"schema_version": 99}', "[]", "\udcff"])
def test_unreadable_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"a\.json (is not readable as JSON|has schema version)"):
        read_json(tmp_path / "a.json")
