"""Target rates from text."""

import pytest

from aleator.language import rates_from_corpus, rates_from_parallel, rates_from_words
from aleator.language.rates import read_lines


def test_rule_of_words_averages_over_documents():
    # 5 bytes in 2 words, 9 bytes in 1: the mean of 2.5 and 9, not 14/3. A document without words does not count.
    rates = rates_from_words({"latin": ["ab cd", "abcdefghi", "  "], "cyrl": ["да нет"]})
    assert rates == {"latin": pytest.approx(1 / 5.75), "cyrl": pytest.approx(2 / 11)}


def test_parallel_rule_gives_the_same_content_the_same_expected_segments():
    texts = {"en": ["peace", "war"], "ru": ["мир", "война"]}
    rates = rates_from_parallel(texts, anchor="en", anchor_rate=0.25)
    assert rates == {"en": 0.25, "ru": pytest.approx(0.25 * 8 / 16)}
    segments = {name: rates[name] * sum(len(line.encode()) for line in lines) for name, lines in texts.items()}
    assert segments["en"] == pytest.approx(segments["ru"])


@pytest.mark.parametrize("blank", ["", " \t", "\u3000"])
def test_a_sentence_that_one_language_lacks_is_left_out_in_all_and_counted(blank, caplog):
    texts = {"en": ["peace", "a long sentence", "war"], "ru": ["мир", blank, "война"]}
    both = {"en": ["peace", "war"], "ru": ["мир", "война"]}
    expected = rates_from_parallel(both, anchor="en", anchor_rate=0.25)
    assert not caplog.records
    assert rates_from_parallel(texts, anchor="en", anchor_rate=0.25) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 lines are left out: they are empty in some language"
    ]


def test_a_byte_order_mark_is_no_text(tmp_path):
    lines = ["peace", "war"]
    (tmp_path / "plain").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "marked").write_text("\n".join(lines), encoding="utf-8-sig")
    assert read_lines(tmp_path / "marked") == read_lines(tmp_path / "plain") == lines
    marked = {"en": lines, "xx": ["\ufeffpeace", "war"]}
    assert rates_from_parallel(marked, anchor="en", anchor_rate=0.25) == {"en": 0.25, "xx": 0.25}


def test_corpus_files_are_read_line_by_line(tmp_path):
    files = {}
    for name, text in {"en": "peace\u2028x\nwar\n", "ru": "мир\nвойна\n"}.items():
        files[name] = tmp_path / name
        files[name].write_text(text, encoding="utf-8")
    texts = {"en": ["peace\u2028x", "war"], "ru": ["мир", "война"]}
    assert rates_from_corpus(files) == rates_from_words(texts)
    assert rates_from_corpus(files, anchor="en", anchor_rate=0.2) == rates_from_parallel(
        texts, anchor="en", anchor_rate=0.2
    )


@pytest.mark.plain
def test_texts_that_give_no_rate_are_refused(tmp_path):
    with pytest.raises(ValueError, match="documents of latin must have at least one word"):
        rates_from_words({"latin": ["", " "]})
    with pytest.raises(ValueError, match=r"the rate of latin must be in \(0, 1\), got 1"):
        rates_from_words({"latin": ["a"]})
    with pytest.raises(ValueError, match="anchor must be one of ru, got 'en'"):
        rates_from_parallel({"ru": ["a"]}, anchor="en", anchor_rate=0.2)
    with pytest.raises(ValueError, match="same number of lines, at least one, got en 1, ru 2"):
        rates_from_parallel({"en": ["a"], "ru": ["a", "b"]}, anchor="en", anchor_rate=0.2)
    with pytest.raises(ValueError, match=r"the rate of en must be in \(0, 1\), got 1"):
        rates_from_parallel({"en": ["a"]}, anchor="en", anchor_rate=1.0)
    with pytest.raises(ValueError, match=r"the rate of zh must be in \(0, 1\), got 1\.8"):
        rates_from_parallel({"en": ["123456789"], "zh": ["1"]}, anchor="en", anchor_rate=0.2)
    with pytest.raises(ValueError, match="must have a line that no language lacks, got none in 1"):
        rates_from_parallel({"en": ["a"], "zh": [""]}, anchor="en", anchor_rate=0.2)
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="anchor and anchor_rate must be given together, got en and None"):
        rates_from_corpus({}, anchor="en")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        rates_from_corpus({"en": tmp_path / "a"})
