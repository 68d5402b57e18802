import numpy as np

from aleator.spiking import assignment_scores, decide, label_cells
from aleator.spiking.readout import SILENT, shares


def test_a_cell_belongs_to_the_class_with_its_highest_mean_not_its_highest_sum():
    sums = np.array([[6, 0, 0], [5, 0, 1]])  # [classes, cells]
    assert label_cells(sums, np.array([10, 2])).tolist() == [1, -1, 1]


def test_scores_are_means_over_a_class_s_cells_and_a_class_without_cells_never_wins():
    hidden = np.array([[4, 0, 2], [0, 0, 0]])
    scores = assignment_scores(hidden, np.array([2, 0, 2]), 3)
    np.testing.assert_array_equal(scores, [[0, -np.inf, 3], [0, -np.inf, 0]])
    assert decide(scores).tolist() == [2, SILENT]


def test_ties_go_to_the_lowest_class_and_silence_to_none():
    assert decide(np.array([[0, 3, 3], [0, 0, 0]])).tolist() == [1, SILENT]


def test_shares_sum_to_one_and_silence_is_undecided():
    np.testing.assert_allclose(shares(np.array([[1.0, 3, -np.inf, 0], [0, 0, 0, 0]])), [[0.25, 0.75, 0, 0], [0.25] * 4])
