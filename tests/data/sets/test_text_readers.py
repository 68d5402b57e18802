"""The texts of the catalogue: both forms of a set give the same text, and the splits are the ones that are stated."""

import gzip
import hashlib
import logging
import unicodedata
import zipfile

import pytest
import torch

from aleator.data.sets.catalog import lookup
from aleator.data.sets.load import load
from aleator.data.sets.text_readers import text_corpus
from aleator.data.sets.texts import ParallelCorpus

SPLITS = ("train", "validation", "test")
TICO_TEST_SHA256 = "1e642475b142d3b7f840a0234b0743fce51847a9ee47da2c75f83306e2bdf0f8"


def lengths(domain):
    return [len(getattr(domain, split)) for split in SPLITS]


def translation_memory(units):
    """A TMX file as TICO-19 publishes it; ``units`` is a list of (id, English, other language)."""
    body = "\n".join(
        f'<tu tuid="{unit}">\n<prop type="note">n</prop>\n<tuv xml:lang="en">\n<seg>{source}</seg></tuv>\n'
        f'<tuv xml:lang="xx"><seg>{target}</seg></tuv>\n</tu>'
        for unit, source, target in units
    )
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header/><body>\n'
    return f"{head}{body}\n</body></tmx>".encode()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def corpus(name, *paths):
    return text_corpus(lookup(name), {path.name: path for path in paths}, ())


@pytest.fixture
def memories(tmp_path):
    """Three translation memories of twenty units; the first has a thin blank in unit 3 and an odd copy of unit 4."""
    paths = []
    for number, code in enumerate(["es-LA", "fa", "ti_ET"]):
        units = [(f"u:{i}", f"one {i}", f"{code[:2]} &amp; {i}") for i in range(20)]
        if number == 0:
            units[3] = ("u:3", "one\u20093", " es  &amp;\n3 ")
            units[4] = ("u:4", "onne 4", "es &amp; 4")
        members = {f"all.en-{code}.tmx": translation_memory(units)}
        paths.append(write_zip(tmp_path / f"all.en-{code}.tmx.zip", members))
    return paths


def test_translation_memories_join_to_the_table_of_the_mirror(memories, tmp_path):
    rows = ["unit\tdomain\ten\tes\tfa\tti"] + [f"u:{i}\tx\tone {i}\tes & {i}\tfa & {i}\tti & {i}" for i in range(20)]
    table = tmp_path / "tico19_parallel.tsv.gz"
    table.write_bytes(gzip.compress("\n".join([*rows, ""]).encode()))
    published, mirrored = corpus("tico19", *memories), corpus("tico19", table)
    assert [domain.name for domain in published.domains] == ["en", "es", "fa", "ti"]
    for split in SPLITS:
        assert published.sentences(split) == mirrored.sentences(split)
    assert [len(published.sentences(split)["fa"]) for split in SPLITS] == [16, 2, 2]


def test_memories_of_other_units_are_refused(memories):
    write_zip(memories[1], {"all.en-fa.tmx": translation_memory([("u:0", "a", "b")])})
    with pytest.raises(ValueError, match=r"all\.en-fa\.tmx\.zip must have the units of .*all\.en-es-LA\.tmx\.zip"):
        corpus("tico19", *memories)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (translation_memory([("u:0", "a", "b")])[:-9], "is not a translation memory"),
        (translation_memory([("u:0", "a", "b"), ("u:0", "a", "b")]), "unit 'u:0' must be there once"),
        (b"<tmx><tu tuid='u:0'><seg>a</seg></tu></tmx>", "have two segments, got 1"),
    ],
)
def test_a_malformed_memory_is_refused_by_name(tmp_path, content, message):
    path = write_zip(tmp_path / "all.en-fa.tmx.zip", {"all.en-fa.tmx": content})
    with pytest.raises(ValueError, match=rf"all\.en-fa\.tmx\.zip.* {message}"):
        corpus("tico19", path)


def test_a_table_row_of_another_length_is_refused_with_its_line(tmp_path):
    path = tmp_path / "tico19_parallel.tsv.gz"
    path.write_bytes(gzip.compress(b"unit\tdomain\ten\tfa\nu:0\tx\ta\tb\nu:1\tx\ta\n"))
    with pytest.raises(ValueError, match=r"parallel\.tsv\.gz:3: a row must have 4 cells, got 3"):
        corpus("tico19", path)


def test_published_wikitext_keeps_its_own_split(tmp_path):
    members = {f"wikitext-2/wiki.{part}.tokens": f" {part} <unk> \n" for part in ("train", "valid", "test")}
    (wiki,) = corpus("wikitext2", write_zip(tmp_path / "wikitext-2-v1.zip", members)).domains
    assert [wiki.text(split) for split in SPLITS] == [" train <unk> \n", " valid <unk> \n", " test <unk> \n"]
    del members["wikitext-2/wiki.train.tokens"]
    with pytest.raises(ValueError, match=r"wikitext-2-v1\.zip lacks wikitext-2/wiki\.train\.tokens"):
        corpus("wikitext2", write_zip(tmp_path / "wikitext-2-v1.zip", members))


def test_languages_of_the_declaration_are_sorted_and_empty_files_left_out(tmp_path):
    members = {"udhr2/": "", "udhr2/b.txt": "b" * 10, "udhr2/none.txt": "", "udhr2/a.txt": "a" * 20}
    declaration = corpus("udhr2", write_zip(tmp_path / "udhr2.zip", members))
    assert {domain.name: lengths(domain) for domain in declaration.domains} == {"a": [16, 2, 2], "b": [8, 1, 1]}


def test_an_archive_that_is_none_and_a_member_that_is_not_utf_8_are_refused(tmp_path):
    path = tmp_path / "udhr2.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"udhr2\.zip is not a whole zip archive"):
        corpus("udhr2", path)
    with pytest.raises(ValueError, match=r"udhr2\.zip: udhr2/a\.txt must be UTF-8, got 0xff at byte 1"):
        corpus("udhr2", write_zip(path, {"udhr2/a.txt": b"a\xff"}))


def test_tiny_shakespeare_is_90_5_and_5_percent(data_root):
    (plays,) = load("tinyshakespeare", data_root).domains
    assert plays.name == "shakespeare"
    assert lengths(plays) == [1_003_854, 55_770, 55_770]
    assert plays.text("train").startswith("First Citizen:\nBefore we proceed any further")
    assert set(torch.cat([plays.train, plays.validation, plays.test]).tolist()) < set(range(128))


def test_wikitext_of_the_mirror_says_what_it_lacks(data_root, caplog):
    with caplog.at_level(logging.WARNING, "aleator.data"):
        corpus = load("wikitext2", data_root)
    assert "wikitext2: no training part" in caplog.text
    assert "first 90 % of the validation part" in corpus.notes[-1]
    assert lengths(corpus.domains[0]) == [1_009_513, 112_168, 1_256_449]


def test_declaration_has_every_language_whole(data_root):
    corpus = load("udhr2", data_root)
    assert len(corpus.domains) == 387
    assert sum(sum(lengths(domain)) for domain in corpus.domains) == 5_677_920
    for domain in corpus.domains:  # decoding fails where a character was cut
        assert "".join(domain.text(split) for split in SPLITS)
        assert all(lengths(domain))
    assert corpus.domain("eng").text("train").startswith("Universal Declaration of Human Rights")


def test_tico19_holds_out_the_same_sentences_in_all_languages(data_root):
    corpus = load("tico19", data_root)
    assert isinstance(corpus, ParallelCorpus)
    assert len(corpus.domains) == 21
    sentences = {split: corpus.sentences(split) for split in SPLITS}
    assert {split: {len(lines) for lines in sentences[split].values()} for split in SPLITS} == {
        "train": {2457},
        "validation": {307},
        "test": {307},
    }
    # What the data's README counts: 2,457 + 307 + 307 sentences less the line ends between them.
    total = {d.name: sum(lengths(d)) - 3068 for d in corpus.domains}
    assert (total["en"], total["zh"], total["my"]) == (454_248, 385_764, 1_642_331)
    # Aligned: a figure of three digits in the English is, as a rule, in the Russian of the same index as well.
    pairs = list(zip(sentences["test"]["en"], sentences["test"]["ru"], strict=True))
    figures = [(word, ru) for en, ru in pairs for word in en.split() if word.isdecimal() and len(word) == 3]
    assert sum(word in ru for word, ru in figures) > 0.8 * len(figures) > 0
    assert unicodedata.name(sentences["test"]["bn"][0][0]).startswith("BENGALI")


def test_tico19_split_never_changes(data_root):
    # Recorded when the split was made. A change here changes every published result on it.
    test = load("tico19", data_root).domain("en").test
    assert hashlib.sha256(test.numpy().tobytes()).hexdigest() == TICO_TEST_SHA256
