"""From spike counts to classes: the two readouts.

``"sl"`` reads the class cells: the class whose cell spiked most. ``"assignment"`` does without them, as unsupervised
spiking networks do: every hidden cell is labelled with the class to which it responded most, on average, in training,

    label_j = argmax_c  mean of n_j over training samples of class c,      −1 if j never spiked
    score_c = mean of n_j over the cells with label_j = c,                 −∞ if there is none

and the class with the highest score is taken. Ties go to the lowest class. A sample without a spike in what is read has
no class: it is answered with `SILENT`, whereas the authors' program counts it as class 0.

Y. Hao et al., arXiv 1812.06574; the assignment is from P. Diehl, M. Cook, Front. Comput. Neurosci. 9 (2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SILENT = -1


def label_cells(sums: npt.NDArray[np.int64], samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the class of every hidden cell, −1 for those that never spiked.

    Args:
        sums: spikes of every cell over the training samples of every class, [N_c, N_h].
        samples: number of training samples of every class, [N_c].
    """
    means = sums / np.maximum(samples, 1)[:, None]
    return np.where(sums.any(0), means.argmax(0), -1)


def assignment_scores(
    hidden: npt.NDArray[np.integer[Any]], cell_labels: npt.NDArray[np.int64], n_classes: int
) -> npt.NDArray[np.float64]:
    """Return the mean spike count over each class's cells, [samples, N_c], −∞ for a class without cells.

    Args:
        hidden: spike counts [samples, N_h].
        cell_labels: of `label_cells`.
        n_classes: number of classes N_c.
    """
    scores = np.full((len(hidden), n_classes), -np.inf)
    for c in np.unique(cell_labels[cell_labels >= 0]):
        scores[:, c] = hidden[:, cell_labels == c].mean(1)
    return scores


def decide(scores: npt.NDArray[np.float64] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
    """Return the class with the highest score of each sample, and `SILENT` where no score is positive."""
    return np.where(scores.max(1) > 0, scores.argmax(1), SILENT)


def shares(scores: npt.NDArray[np.float64] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Return the scores divided by their sum, [samples, N_c]; equal shares where no score is positive."""
    positive = np.where(scores > 0, scores, 0.0)
    total = positive.sum(1, keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / scores.shape[1])
