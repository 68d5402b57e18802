"""A table becomes numbers: what is learned about columns comes from training rows, and nothing is left unsaid."""

import logging

import pytest
import torch

from aleator.data import table_splits
from aleator.data.own.splitting import drawn


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def table(path, heading, rows):
    path.write_text("\n".join([heading, *rows]) + "\n")
    return path


def test_rows_are_divided_once_and_all_of_them(tmp_path):
    file = table(tmp_path / "t.csv", "a,y", [f"{i},{2 * i}" for i in range(100)])
    splits = table_splits(file, "y", generator())
    assert {name: len(x) for name, (x, _) in splits.items()} == {"train": 70, "validation": 15, "test": 15}
    parts = drawn(100, generator())
    assert torch.equal(torch.cat(list(parts.values())).sort()[0], torch.arange(100))
    a = torch.arange(100.0, dtype=torch.float64)
    mean, spread = a[parts["train"]].mean(), a[parts["train"]].std()
    for name, chosen in parts.items():
        torch.testing.assert_close(splits[name][0][:, 0], ((a[chosen] - mean) / spread).float())
        torch.testing.assert_close(splits[name][1], splits[name][0][:, 0])  # y is a multiple: the same in its units


def test_missing_numbers_are_the_mean_of_training_rows_and_a_column_says_so(tmp_path):
    rows = [f"{'' if i % 4 == 0 else i},{i % 2}" for i in range(40)]
    splits = table_splits(table(tmp_path / "t.csv", "a,y", rows), "y", generator())
    parts = drawn(40, generator())
    for name, chosen in parts.items():
        gone = (chosen % 4 == 0).float()
        assert torch.equal(splits[name][0][:, 1], gone)
        assert (splits[name][0][gone.bool(), 0] == 0).all()
        assert torch.equal(splits[name][1], chosen % 2)


def test_categories_are_indicators_and_unknown_ones_are_other(tmp_path):
    train = drawn(30, generator())["train"].tolist()
    rows = [f"{('red', 'blue')[i % 2] if i in train else 'mauve'},{i % 2}" for i in range(30)]
    splits = table_splits(table(tmp_path / "t.csv", "colour,y", rows), "y", generator())
    assert splits["train"][0].sum(0)[2] == 0
    assert torch.equal(splits["train"][0].sum(1), torch.ones(21))
    assert torch.equal(splits["test"][0], torch.tensor([[0.0, 0.0, 1.0]]).expand(len(splits["test"][0]), 3))


def test_columns_that_say_nothing_are_left_out_and_named(tmp_path, caplog):
    rows = [f"{i}b,7,x,{i},{i / 7:.3f}" for i in range(200)]
    rows[3] = "3b,7,x,3,"
    file = table(tmp_path / "t.csv", "name,seven,letter,n,y", rows)
    with caplog.at_level(logging.INFO, "aleator.data"):
        splits = table_splits(file, "y", generator())
    assert splits["train"][0].shape[1] == 1
    (line,) = caplog.messages
    assert "y is a number with mean 1" in line
    assert "1 row without it left out" in line
    assert "columns: 1 of numbers, 0 of words, left out: name, seven, letter" in line
    assert "rows: 139/30/30 for training/validation/test" in line


def test_the_numbers_of_the_rows_are_left_out_where_the_heading_says_so(tmp_path, caplog):
    rows = [f"{i},{i + 1},{i},{i / 7:.3f}" for i in range(40)]
    with caplog.at_level(logging.INFO, "aleator.data"):
        splits = table_splits(table(tmp_path / "t.csv", ",patient_id,day,y", rows), "y", generator())
    assert splits["train"][0].shape[1] == 1
    assert "left out: the numbers of the rows, patient_id;" in caplog.text


def test_words_among_numbers_are_missing_values_and_named(tmp_path, caplog):
    rows = [f"{'k. A.' if i % 10 == 3 else i * i},{i},{i % 2}" for i in range(100)]
    with caplog.at_level(logging.INFO, "aleator.data"):
        splits = table_splits(table(tmp_path / "t.csv", "a,b,y", rows), "y", generator())
    assert splits["train"][0].shape[1] == 3
    assert torch.equal(splits["test"][0][:, 1], (drawn(100, generator())["test"] % 10 == 3).float())
    assert "columns: 2 of numbers, 0 of words, taken as missing: 'k. A.' in a; rows" in caplog.text


def test_amounts_of_money_are_numbers(tmp_path):
    values = [1234.5 + 997 * i for i in range(40)]
    plain = table(tmp_path / "p.csv", "a,y", [f"{v},{v}" for v in values])
    dollars = table(tmp_path / "d.csv", "a,y", [f'"${v:,.2f}","-USD {v:,.2f}"' for v in values])
    euros = table(
        tmp_path / "e.csv",
        "a;y",
        [f"{v:,.2f} €;€ {v:,.2f}".translate(str.maketrans(",.", ".,")) for v in values],
    )
    one, two, three = (table_splits(file, "y", generator()) for file in (plain, dollars, euros))
    torch.testing.assert_close(two["train"], (one["train"][0], -one["train"][1]))
    torch.testing.assert_close(three["train"], one["train"])
    brackets = table(tmp_path / "b.csv", "a,y", [f'"(${v:,.2f})",{v}' for v in values])
    four = table_splits(brackets, "y", generator())
    torch.testing.assert_close(four["train"], (-one["train"][0], one["train"][1]))


def test_a_number_that_no_float_holds_is_a_missing_value(tmp_path, caplog):
    rows = [f"{'1e400' if i == 7 else i * i},{i % 2}" for i in range(100)]
    with caplog.at_level(logging.INFO, "aleator.data"):
        splits = table_splits(table(tmp_path / "t.csv", "a,y", rows), "y", generator())
    assert all(x.isfinite().all() for x, _ in splits.values())
    assert "taken as missing: '1e400' in a" in caplog.text


def test_a_cell_in_quotation_marks_may_go_over_several_lines(tmp_path, caplog):
    rows = [f'"{("red", "blue")[i % 2]}\n\n# and ""more"", {i % 2}",5" pipe,{i % 2}' for i in range(40)]
    with caplog.at_level(logging.INFO, "aleator.data"):
        splits = table_splits(table(tmp_path / "t.csv", "note,size,y", rows), "y", generator())
    assert "without it" not in caplog.text
    assert splits["train"][0].shape == (28, 3)
    assert torch.equal(splits["train"][1], drawn(40, generator())["train"] % 2)


def test_lines_that_all_begin_with_a_number_sign_are_no_comments(tmp_path):
    rows = [f"#{1000 + i},{i / 8},{i % 2}" for i in range(40)]
    plain = [row.removeprefix("#") for row in rows]
    signed = table_splits(table(tmp_path / "s.csv", "order,a,y", rows), "y", generator())
    assert len(signed["train"][0]) == 28
    without = table_splits(table(tmp_path / "p.csv", "order,a,y", ["# all orders", *plain]), "y", generator())
    assert len(without["train"][0]) == 28


def test_a_table_of_r_has_no_heading_above_the_names_of_its_lines(tmp_path):
    rows = [(f'"row {i}"', i / 8, ("New York", "Rome")[i % 2]) for i in range(40)]
    written = table(tmp_path / "r.txt", '"a" "city"', [f'{name} {a} "{city}"' for name, a, city in rows])
    plain = table(tmp_path / "p.csv", "a,city", [f"{a},{city}" for _, a, city in rows])
    one, two = (table_splits(file, "city", generator()) for file in (written, plain))
    assert torch.equal(one["train"][0], two["train"][0])
    assert torch.equal(one["train"][1], two["train"][1])


def test_titles_above_the_heading_are_left_out(tmp_path):
    rows = ["Sales of the year", "all shops,,", "", "a,y", *(f"{i},{i % 2}" for i in range(40))]
    splits = table_splits(table(tmp_path / "t.csv", "Our firm", rows), "y", generator())
    assert splits["train"][0].shape == (28, 1)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            ["1,200,3"],
            "line 2: a line must have 2 cells like the heading, got 3; put cells with a comma or the like in",
        ),
        (["950,1", "1.200,2"], "line 3: a may be thousands or a fraction, got '1.200'; write it in another way"),
        ([f"{i},{i * i}" for i in range(60)] + ["5,sold"], "line 62: y must be a number as in other rows, got 'sold'"),
    ],
)
def test_a_table_that_may_be_read_wrongly_is_refused_with_the_line(tmp_path, rows, line):
    file = table(tmp_path / "t.csv", "a,y", [*rows, *["950,1"] * 9])
    with pytest.raises(ValueError, match=r"\S") as caught:
        table_splits(file, "y", generator())
    assert str(caught.value).startswith(f"{file}, {line}")


def test_a_table_in_another_country_is_the_same(tmp_path):
    rows = [(i / 8, "ab"[i % 2]) for i in range(20)]
    english = table(tmp_path / "e.csv", "a,y", [f"{a},{y}" for a, y in rows])
    german = tmp_path / "g.csv"
    german.write_text("a;y\n" + "".join(f"{a};{y}\n".replace(".", ",") for a, y in rows), encoding="utf-16")
    one, two = (table_splits(file, "y", generator()) for file in (english, german))
    assert all(torch.equal(one[name][part], two[name][part]) for name in one for part in (0, 1))


@pytest.mark.parametrize(
    ("heading", "row", "line"),
    [
        ("a,b", "{i},{i}", "has no column 'y' (columns: a, b)"),
        ("y,y", "{i},{i}", "has two columns 'y'; rename one"),
        (
            "a,y",
            "{i},word{i}",
            "y must be numbers or classes with several rows each, got 40 different values in 40 rows",
        ),
        ("a,y", "7,{i}.5", "no column tells rows apart, so that y cannot be predicted"),
        ("a,y", "{i},2.5", "y is the same in all training rows"),
        ("a,y", "{i},", "there must be at least 10 examples to be split in three, got 0"),
    ],
)
def test_a_table_without_anything_to_learn_is_refused(tmp_path, heading, row, line):
    file = table(tmp_path / "t.csv", heading, [row.format(i=i) for i in range(40)])
    with pytest.raises(ValueError, match=r"\S") as caught:
        table_splits(file, "y", generator())
    assert str(caught.value).removeprefix(f"{file} ").removeprefix(f"{file}: ") == line
