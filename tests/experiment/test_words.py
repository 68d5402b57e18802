"""Numbers in reports."""

from aleator.experiment.report.words import column_decimals, decimals, detectable, difference, difference_interval


def test_a_column_of_differences_has_one_number_of_decimals():
    values = [-9.94e-05, 0.00304, None, -0.0017]
    places = decimals("loss", values)
    assert [difference("loss", value, places=places) for value in values] == ["−0.00010", "+0.00304", "–", "−0.00170"]
    assert difference_interval("loss", (-0.0017, 2e-7), places) == "−0.00170 to 0.00000"
    assert detectable("loss", 0.002, places) == "0.00200"


def test_decimals_are_for_the_largest_and_never_below_none():
    assert decimals("loss", [0.5, 31.25]) == 1
    assert decimals("loss", [1234.0]) == 0
    assert decimals("loss", [0.0, None]) is None
    assert decimals("loss", [1e-9]) is None
    assert decimals("accuracy", [0.01]) is None
    assert difference("accuracy", 0.0123) == "+1.23"


def test_intervals_count_for_the_decimals_of_a_column():
    assert column_decimals("loss", [(0.5, (0.1, 31.25)), (None, None)]) == 1
    assert column_decimals("loss", [(0.5, None)]) == 3
