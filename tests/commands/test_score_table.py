"""Forty shapes of one table, each read rightly or refused with the remedy."""

import re

import pytest

from aleator.commands.score_table import read_scores

SIZES = [1000.0, 2000.0, 4000.0, 8000.0]
ONE = [0.71, 0.78, 0.82, 0.845]
TWO = [0.61, 0.66, 0.7, 0.725]
SPREAD = [[round(score + 0.01 * seed, 3) for seed in (0, 1, 2)] for score in ONE]


def table(header, rows, mark=","):
    return "".join(mark.join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))


ROWS = list(zip([1000, 2000, 4000, 8000], ONE, strict=True))
PAIRS = [(size, one, two) for (size, one), two in zip(ROWS, TWO, strict=True)]
LONG = [(size, one, "old") for size, one, _ in PAIRS] + [(size, two, "new") for size, _, two in PAIRS]
PERCENTS = [(1000, 71), (2000, 78), (4000, 82), (8000, 84.5)]
WITH_SIGNS = [(size, f"{score:.1f}%".replace(".", ",")) for size, score in PERCENTS]
PLAIN = table(("size", "score"), ROWS)
WIDE = table(("size", "old", "new"), PAIRS)
COMMAS = [(size, str(score).replace(".", ",")) for size, score in ROWS]
GROUPED = [("1{}000", 0.71), ("2{}000", 0.78), ("4{}000", 0.82), ("8{}000", 0.845)]

SINGLE = {
    "plain": PLAIN,
    "semicolons": table(("size", "score"), ROWS, ";"),
    "tabs": table(("size", "score"), ROWS, "\t"),
    "spaces": table(("size", "score"), ROWS, "   "),
    "bars": table(("size", "score"), ROWS, " | "),
    "a table of Markdown": "| size | score |\n|---:|---:|\n" + "".join(f"| {x} | {y} |\n" for x, y in ROWS),
    "spaces after commas": table(("size", "score"), ROWS, ",  "),
    "no header": table(None, ROWS),
    "any header": table(("Trainingsmenge", "Güte"), ROWS),
    "header with units": table(("Training size [words]", "Accuracy (test)"), ROWS),
    "columns exchanged": table(("score", "size"), [(y, x) for x, y in ROWS]),
    "byte-order mark": "\ufeff" + PLAIN,
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big end first, unmarked": PLAIN.encode("utf-16-be"),
    "lines of Windows": PLAIN.replace("\n", "\r\n"),
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "comments": "# " + PLAIN + "# done\n",
    "a comment first": "# measured on Monday\n" + PLAIN,
    "comments first, no header": "# measured on Monday\n# again\n" + table(None, ROWS),
    "a title": "Accuracy of the tagger\n\n" + PLAIN,
    "aligned, header of several words": "".join(f"{x!s:<16}{y}\n" for x, y in [("Training size", "Our score"), *ROWS]),
    "names of lines without a heading": "size\tscore\n" + table(None, [(f"at {x}", x, y) for x, y in ROWS], "\t"),
    "an empty column": table(("", "size", "", "score"), [("", x, "", y) for x, y in ROWS]),
    "losses beside": table(("size", "loss", "accuracy"), [(x, 3 - y, y) for x, y in ROWS]),
    "Excel's mark": "sep=;\n" + table(("size", "score"), ROWS, ";"),
    "quoted": table(('"size"', '"score"'), [(f'"{x}"', f'"{y}"') for x, y in ROWS]),
    "trailing commas": PLAIN.replace("\n", ",,\n"),
    "decimal commas": table(("size", "score"), COMMAS, ";"),
    "decimal commas between spaces": table(("size", "score"), COMMAS, " "),
    "decimal commas in quotes": table(("size", "score"), [(x, f'"{y}"') for x, y in COMMAS]),
    "thousands with commas": table(("size", "score"), [('"' + x.format(",") + '"', y) for x, y in GROUPED]),
    "thousands with points": table(("size", "score"), [(f"{x // 1000}.000", y) for x, y in COMMAS], ";"),
    "thousands with spaces": table(("size", "score"), [(x.format(" "), y) for x, y in GROUPED], ";"),
    "thousands with thin spaces": table(("size", "score"), [(x.format("\u202f"), y) for x, y in GROUPED]),
    "thousands as k": table(("size", "score"), [(x.format("k")[:2], y) for x, y in GROUPED]),
    "percent signs": table(("size", "score"), [(x, f"{y} %") for x, y in PERCENTS]),
    "percent signs, decimal commas": table(("size", "score"), WITH_SIGNS, ";"),
    "percents": table(("size", "score"), PERCENTS),
    "percents by the header": table(("size", "accuracy (%)"), PERCENTS),
    "numbers of lines": table(("", "size", "score"), [(i, x, y) for i, (x, y) in enumerate(ROWS)]),
    "names of lines": table(("run", "size", "score"), [(f"run-{i}", x, y) for i, (x, y) in enumerate(ROWS)]),
    "deviations beside": table(("size", "accuracy", "std"), [(x, y, 0.01) for x, y in ROWS]),
    "unsorted": table(("size", "score"), [ROWS[i] for i in (3, 0, 2, 1)]),
    "a column for each size": table(("size", *(x for x, _ in ROWS)), [("score", *ONE)]),
    "exponents": table(("size", "score"), [(f"{x:e}", f"{y:e}") for x, y in ROWS]),
}  # fmt: skip
SEVERAL = {
    "wide": WIDE,
    "wide, without a corner": WIDE.replace("size", ""),
    "wide, in percent": table(("words", "old", "new"), [(x, 100 * a, 100 * b) for x, a, b in PAIRS]),
    "wide, semicolons and decimal commas": WIDE.replace(",", ";").replace(".", ","),
    "wide, a line for each system": table(("system", *(x for x, _ in ROWS)), [("old", *ONE), ("new", *TWO)]),
    "long": table(("size", "score", "system"), LONG),
    "long, another order": table(("accuracy", "model", "n"), [(y, name, x) for x, y, name in LONG]),
    "long, without a header": table(None, LONG),
}
BY_SEED = [(x, seed, scores[seed]) for seed in (2, 0, 1) for (x, _), scores in zip(ROWS, SPREAD, strict=True)]
REPEATED = {
    "seeds in lines": table(("size", "seed", "accuracy"), BY_SEED),
    "folds in columns": table(
        ("size", "fold1", "fold2", "fold3"), [(x, *scores) for (x, _), scores in zip(ROWS, SPREAD, strict=True)]
    ),
    "without names": table(("size", "score"), [(x, y) for x, _, y in sorted(BY_SEED)]),
}


def read(tmp_path, content):
    path = tmp_path / "s.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_scores(path, higher_is_better=True)


def test_there_are_more_than_forty_shapes():
    assert len(SINGLE) + len(SEVERAL) + len(REPEATED) > 40


@pytest.mark.parametrize("content", SINGLE.values(), ids=SINGLE.keys())
def test_one_curve_is_read_from_every_shape(tmp_path, content):
    found = read(tmp_path, content)
    assert list(found.curves) == [""]
    assert found.curves[""].sizes == SIZES
    assert found.curves[""].scores == [[pytest.approx(score, abs=1e-12)] for score in ONE]
    assert "4 sizes from 1,000 to 8,000" in found.understood
    assert "\n" not in found.understood


@pytest.mark.parametrize("content", SEVERAL.values(), ids=SEVERAL.keys())
def test_every_system_of_a_table_is_read(tmp_path, content):
    found = read(tmp_path, content)
    assert list(found.curves) == ["old", "new"]
    for name, scores in (("old", ONE), ("new", TWO)):
        assert found.curves[name].sizes == SIZES
        assert found.curves[name].scores == [[pytest.approx(score, abs=1e-12)] for score in scores]
    assert "2 systems (old, new)" in found.understood


def test_a_model_that_heads_scores_is_a_system_and_no_column_of_names(tmp_path):
    found = read(tmp_path, WIDE.replace("old", "My model").replace("new", "Their model"))
    assert list(found.curves) == ["My model", "Their model"]
    assert found.curves["My model"].sizes == SIZES


@pytest.mark.parametrize("content", REPEATED.values(), ids=REPEATED.keys())
def test_several_scores_of_a_size_keep_their_spread(tmp_path, content):
    found = read(tmp_path, content)
    assert found.curves[""].sizes == SIZES
    assert found.curves[""].scores == SPREAD
    assert "3 scores for each size, averaged, their spread used" in found.understood


def test_sizes_of_unequally_many_scores_are_averaged(tmp_path):
    found = read(tmp_path, PLAIN + "8000,0.865\n")
    assert found.curves[""].scores[-1] == [pytest.approx(0.855)]
    assert "averaged, without a spread" in found.understood


def test_empty_cells_of_a_wide_table_are_left_out_and_counted(tmp_path):
    found = read(tmp_path, WIDE.replace("0.61", "").replace("0.66", "n/a") + "16000,0.86,0.74\n")
    assert found.curves["new"].sizes == [4000.0, 8000.0, 16000.0]
    assert found.curves["old"].sizes == [*SIZES, 16000.0]
    assert "2 empty cells left out" in found.understood


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("size;score\n1.000;71%\n2.000;78%\n4.000;82%\n", "line 2: size may be thousands or a fraction, got '1.000'"),
        ("size;score\n1000;71,234\n2000;78,123\n4000;82,456\n", "line 2: score may be thousands or a fraction"),
        ("size,score\n1000,0.71\n2000,78\n4000,82\n", "got 82 beside 0.71; write percentages with %"),
        ("size,score\n1000,0.71\n2000,120\n4000,82\n", "got 120; write percentages with %, and for losses add"),
        ("size;score\n1000;0,71\n2000;0.78\n4000;0.82\n", "numbers must be written in one way, got '0.78' in line 3"),
        ("size,acc %\n1000,0.71\n2000,0.78\n4000,0.82\n", "'acc %' may be percentages or fractions, got '0.71'; write"),
        ("size,loss\n1000,2.71\n2000,2.3\n4000,2.1\n", "'loss' is a loss: add --lower-is-better"),
        (b"PK\x03\x04 a workbook", "is a spreadsheet or an archive: save it as CSV"),
        (b"\xe4\xf6\xfc,1\n", "is not a text in UTF-8 or UTF-16: save it as CSV in UTF-8"),
        ("size,score\n1,000,0.71\n", "line 2: a line must have 2 cells like the first one, got 3; put numbers with a"),
        ("only,words\nhere,there\n", "line 2: size must be a number, got 'there'"),
        ("size\n1\n2\n3\n", "line 2: two columns are needed, size and score, got 1"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path, content, remedy):
    with pytest.raises(ValueError, match=re.escape(remedy)) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value)
