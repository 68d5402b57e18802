"""Text, bytes, ids, and where characters end."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.language import BytesVocabulary, ends_character


@given(st.text())
def test_every_text_comes_back(text):
    vocabulary = BytesVocabulary()
    ids = vocabulary.encode(text)
    assert len(ids) == len(text.encode())
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode([*vocabulary.encode(text, end=True), 70]) == text


def test_ids_are_those_of_byt5_with_scripts_behind():
    vocabulary = BytesVocabulary(["latin", "cyrl", "indic"])
    assert len(vocabulary) == 262
    assert vocabulary.encode("A\x00") == [68, 3]
    assert [vocabulary.script_id(name) for name in vocabulary.scripts] == [259, 260, 261]
    assert vocabulary.script_of(261) == "indic"


def test_what_is_no_text_is_left_out_or_replaced():
    vocabulary = BytesVocabulary(["latin"])
    half = vocabulary.encode("é")[:1]
    assert vocabulary.decode([0, 259, *half, *vocabulary.encode("x"), 2]) == "�x"


@given(st.text(min_size=1))
def test_a_character_ends_where_the_next_byte_does_not_continue_it(text):
    ids = torch.tensor([BytesVocabulary().encode(text)])
    continues = ((ids - 3) >= 0x80) & ((ids - 3) < 0xC0)
    expected = torch.cat([~continues[:, 1:], torch.ones(1, 1, dtype=torch.bool)], dim=1)
    assert torch.equal(ends_character(ids), expected)


def test_the_end_of_a_character_is_known_without_the_next_byte():
    ids = torch.tensor([BytesVocabulary().encode("aб€𝄞z")])
    whole = ends_character(ids)
    for length in range(1, ids.shape[1] + 1):
        assert torch.equal(ends_character(ids[:, :length]), whole[:, :length])


def test_bytes_of_a_character_that_was_cut_off_end_nothing():
    ids = torch.tensor([BytesVocabulary().encode("€a")[1:]])
    assert ends_character(ids).tolist() == [[False, False, True]]


def test_bytes_that_no_character_has_stand_alone():
    # C0 and C1 would start a character that is too long for its number, F5 to FF one beyond the last.
    ids = torch.tensor([[3 + byte for byte in (0xC0, 0x80, 0xC1, 0x80, 0xF5, 0x80, 0xFF)]])
    assert ends_character(ids).tolist() == [[True, False, True, False, True, False, True]]


@pytest.mark.plain
def test_unknown_scripts_and_ids_are_refused():
    vocabulary = BytesVocabulary(["latin", "cyrl"])
    with pytest.raises(ValueError, match="script must be one of latin, cyrl, got 'greek'"):
        vocabulary.script_id("greek")
    with pytest.raises(ValueError, match=r"script ids must be in \[259, 261\), got 258"):
        vocabulary.script_of(258)
    with pytest.raises(ValueError, match=r"ids must be in \[0, 261\), got 261"):
        vocabulary.decode([261])
    with pytest.raises(ValueError, match="scripts must be different"):
        BytesVocabulary(["latin", "latin"])
