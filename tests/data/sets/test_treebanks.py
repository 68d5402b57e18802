"""Treebanks: the words and tags of CoNLL-U, and a line number for whatever is malformed."""

import gzip

import pytest

from aleator.data.sets.load import load
from aleator.data.sets.treebanks import UNIVERSAL_TAGS, TaggedSentence, Treebank, read_conllu

SENTENCE = """\
# sent_id = 1
# text = Dereito á vida
1	Dereito	dereito	NOUN	_	_	0	root	_	_
2-3	á	_	_	_	_	_	_	_	_
2	a	a	ADP	_	_	4	case	_	_
3	a	o	DET	_	_	4	det	_	_
3.1	xxx	x	VERB	_	_	_	_	_	_
4	vida	vida	NOUN	_	_	1	nmod	_	_

"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "gl_some-ud-train.conllu"


def test_words_keep_their_tags_and_ranges_and_empty_nodes_are_skipped(file):
    file.write_text(SENTENCE * 2, encoding="utf-8")
    first, second = read_conllu(file)
    assert first == second
    assert first.tagged == TaggedSentence(("Dereito", "a", "a", "vida"), ("NOUN", "ADP", "DET", "NOUN"))
    assert first.text == "Dereito á vida"


def test_gzipped_file_and_file_without_its_last_empty_line_read_the_same(file, tmp_path):
    file.write_text(SENTENCE, encoding="utf-8")
    bare, packed = tmp_path / "bare.conllu", tmp_path / "packed.conllu.gz"
    bare.write_text(SENTENCE.rstrip("\n"), encoding="utf-8")
    packed.write_bytes(gzip.compress(SENTENCE.encode()))
    assert read_conllu(bare) == read_conllu(packed) == read_conllu(file)


def test_only_a_newline_ends_a_line(file):
    file.write_text(SENTENCE.replace("vida", "vi\u2028da"), encoding="utf-8")
    assert read_conllu(file)[0].tagged.words[-1] == "vi\u2028da"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("\t0\troot", "\troot", 3, r"a word must have 10 columns, none empty, got '1\\tDereito"),
        ("\tdereito\t", "\t\t", 3, "a word must have 10 columns, none empty"),
        ("\n4\tvida", "\n5\tvida", 8, "the word's number must be 4, got '5'"),
        ("\n4\tvida", "\nfour\tvida", 8, "the word's number must be 4, got 'four'"),
        ("\tDET\t", "\tDT\t", 6, "the tag must be one of the 17 universal ones, got 'DT'"),
        ("# text", "# tekst", 9, "the sentence that ends here has no line '# text = …'"),
        ("# text = Dereito á vida\n", "# text = Dereito\n\n", 3, "the sentence that ends here has no words"),
    ],
)
def test_malformed_line_is_refused_with_file_and_number(file, old, new, line, message):
    file.write_text(SENTENCE.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{file}:{line}: {message}"):
        read_conllu(file)


def test_running_text_is_the_sentences_as_they_were_written_one_a_line():
    bank = Treebank("some", "gl", (), (), (), (("Dereito á vida", "Outra."), (), ("Fin.",)), ())
    (domain,) = bank.corpus().domains
    assert domain.name == "gl"
    assert [domain.text(split) for split in ("train", "validation", "test")] == ["Dereito á vida\nOutra.", "", "Fin."]


@pytest.mark.parametrize(
    ("name", "language", "sentences", "words", "tags"),
    [
        ("ud-english-ewt", "en", [12_544, 2_001, 2_077], [204_577, 25_147, 25_094], 17),
        ("ud-galician-treegal", "gl", [600, 0, 400], [15_436, 0, 10_112], 16),
    ],
)
def test_published_treebanks_have_their_published_sizes(data_root, name, language, sentences, words, tags):
    bank = load(name, data_root)
    parts = [bank.train, bank.dev, bank.test]
    assert bank.language == language
    assert [len(part) for part in parts] == [len(lines) for lines in bank.texts] == sentences
    assert [sum(len(sentence.words) for sentence in part) for part in parts] == words
    assert all(len(sentence.words) == len(sentence.tags) for part in parts for sentence in part)
    used = {tag for part in parts for sentence in part for tag in sentence.tags}
    assert len(used) == tags
    assert used <= set(UNIVERSAL_TAGS) == set(bank.tags)


def test_text_of_the_english_treebank_is_what_the_files_say(data_root):
    (english,) = load("ud-english-ewt", data_root).corpus().domains
    with gzip.open(data_root / "ud-english-ewt" / "en_ewt-ud-dev.conllu.gz") as stream:
        content = stream.read().decode()
    lines = [line.partition(" = ")[2] for line in content.split("\n") if line.startswith("# text =")]
    assert english.text("validation") == "\n".join(lines)
    assert len(lines) == 2001
