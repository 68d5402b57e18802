"""Texts by domain: what is cut where, which domain is which, and the messages about files that will not do."""

import gzip

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.data.sets.texts import ParallelCorpus, TextCorpus, TextDomain, read_texts, split_text

SPLITS = ("train", "validation", "test")


def domain(name, *texts):
    return TextDomain.from_strings(name, *(texts or ("a b", "c", "d")))


def corpus(*names):
    return TextCorpus("some", tuple(domain(name) for name in names))


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_a_domain_holds_the_utf_8_bytes_of_its_texts():
    greek = domain("el", "αβ", "", "c\r\n")
    assert greek.train.dtype == torch.uint8
    assert greek.train.tolist() == [0xCE, 0xB1, 0xCE, 0xB2]
    assert [len(greek.validation), len(greek.test)] == [0, 3]
    assert [greek.text(split) for split in SPLITS] == ["αβ", "", "c\r\n"]


@given(st.text(st.characters(codec="utf-8"), min_size=60), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
def test_the_parts_of_a_text_join_to_it_and_cuts_move_by_less_than_a_character(text, validation, test):
    parts = split_text(text, "text", (validation, test))
    assert "".join(parts) == text
    n, (train, _, last) = len(text.encode()), [len(part.encode()) for part in parts]
    assert 0 <= last - round(test * n) <= 3
    assert 0 <= n - train - round(validation * n) - round(test * n) <= 3


def test_ascii_is_cut_at_the_rounded_shares():
    assert [len(part) for part in split_text("x" * 1_115_394, "x", (0.05, 0.05))] == [1_003_854, 55_770, 55_770]


def test_a_domain_is_found_by_name_and_a_near_miss_is_named():
    some = corpus("eng", "deu")
    assert some.domain("deu") is some.domains[1]
    with pytest.raises(
        ValueError, match=r"name must be a domain of some \(eng, deu\), got 'emg'; did you mean 'eng'\?"
    ):
        some.domain("emg")
    with pytest.raises(ValueError, match=r"\(d0, d1, d2 and 97 more\), got 'zulu'$"):
        corpus(*(f"d{number}" for number in range(100))).domain("zulu")


def test_only_keeps_the_domains_asked_for_in_that_order():
    some = corpus("a", "b", "c")
    assert some.only(["c", "a"]).domains == (some.domains[2], some.domains[0])
    assert some.only(["c", "a"]).name == "some"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one domain, got none"),
        (["a", "b", "a"], "unique names, got 'a' 2 times"),
        (["a", "d"], r"domains must be some of some \(a, b\), got 'd'"),
    ],
)
def test_only_refuses_no_name_a_name_twice_and_an_unknown_one(names, message):
    with pytest.raises(ValueError, match=message):
        corpus("a", "b").only(names)


def test_parallel_sentences_are_aligned_by_their_index():
    both = ParallelCorpus(
        "both", (domain("en", "one\ntwo", "three", "four"), domain("de", "eins\nzwei", "drei", "vier"))
    )
    assert both.sentences("train") == {"en": ["one", "two"], "de": ["eins", "zwei"]}
    assert both.only(["de"]).sentences("test") == {"de": ["vier"]}


def test_texts_of_different_numbers_of_lines_are_not_parallel():
    with pytest.raises(ValueError, match="number of test lines, got 1 of 'de' and 2 of 'en'"):
        ParallelCorpus("both", (domain("en", "a", "b", "c\nd"), domain("de", "a", "b", "c")))


@pytest.mark.plain
def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        domain("en").text("dev")


def test_own_files_become_domains_under_the_names_given(tmp_path):
    write(tmp_path / "prose.txt", "p" * 100)
    (tmp_path / "verse.txt.gz").write_bytes(gzip.compress(b"v" * 10))
    own = read_texts({"verse": tmp_path / "verse.txt.gz", "prose": str(tmp_path / "prose.txt")}, validation=0.2)
    assert [d.name for d in own.domains] == ["verse", "prose"]
    assert [len(getattr(own.domain("prose"), split)) for split in SPLITS] == [70, 20, 10]
    assert own.domain("verse").text("test") == "v"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"own\.txt is empty$"),
        (b"good \xff bad", r"own\.txt must be UTF-8, got 0xff at byte 5: invalid start byte$"),
        (b"abc", r"own\.txt is too short to be split: its 3 bytes would become parts of 3, 0, 0$"),
        ("€€€".encode(), r"own\.txt is too short to be split: its 9 bytes would become parts of 6, 0, 3$"),
    ],
)
def test_a_file_that_will_not_do_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_texts({"own": path})
    assert "\n" not in str(error.value)


def test_two_files_of_the_same_content_are_refused_because_one_would_be_tested_on_the_other(tmp_path):
    one, two = write(tmp_path / "one.txt", "text" * 9), write(tmp_path / "two.txt", "text" * 9)
    for second in (one, two):
        with pytest.raises(ValueError, match=rf"files must differ in content, got the same in {one} and {second}"):
            read_texts({"a": one, "b": second})


def test_no_file_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="files must name at least one text, got none"):
        read_texts({})
    with pytest.raises(FileNotFoundError, match=r"gone\.txt is not a file; it should be the text of 'own'"):
        read_texts({"own": tmp_path / "gone.txt"})


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"validation": 0.0}, r"validation must be in \(0, 1\), got 0\.0"),
        ({"test": 1.0}, r"test must be in \(0, 1\), got 1\.0"),
        ({"validation": 0.5, "test": 0.5}, r"validation \+ test must be less than 1, got 0\.5 \+ 0\.5"),
    ],
)
def test_shares_that_leave_nothing_are_refused(tmp_path, shares, message):
    with pytest.raises(ValueError, match=message):
        read_texts({"own": write(tmp_path / "own.txt", "text" * 9)}, **shares)
