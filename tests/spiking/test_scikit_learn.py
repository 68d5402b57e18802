"""scikit-learn's own checks of an estimator, on their data made images, as far as they apply."""

import dataclasses

import numpy as np
import pytest
from sklearn.utils import estimator_checks

from aleator.spiking import SymSTDPClassifier, preset

# Which checks do not apply, and why.
OTHER_NAMES = "fit takes images and labels, not X and y"
OTHER_WORDS = "refused by a line of the house, not in scikit-learn's words"
OTHER_DATA = "its data bypass what makes them images here"
OTHER_CLASSES = "it hands over another number of classes than n_classes"
EXEMPT = {
    "check_fit_score_takes_y": OTHER_NAMES,
    "check_n_features_in_after_fitting": OTHER_WORDS,
    "check_positive_only_tag_during_fit": OTHER_WORDS,
    "check_complex_data": OTHER_WORDS,
    "check_estimators_empty_data_messages": OTHER_WORDS,
    "check_estimators_nan_inf": OTHER_DATA,
    "check_classifiers_regression_target": OTHER_WORDS,
    "check_fit2d_1sample": OTHER_WORDS,
    "check_fit2d_predict1d": OTHER_WORDS,
    "check_estimators_dtypes": OTHER_DATA,
    "check_array_api_input": "it needs SCIPY_ARRAY_API",
    "check_dtype_object": "pixels held as objects are refused",
    "check_supervised_y_2d": "a column of labels is refused",
    "check_classifiers_one_label": OTHER_DATA,
    "check_classifiers_classes": OTHER_CLASSES,
    "check_classifiers_train": OTHER_CLASSES,
}


def tiny() -> SymSTDPClassifier:
    """A network whose fits take milliseconds, driven strongly enough by few pixels."""
    constants = preset("hao2019-mnist-400")
    rule = dataclasses.replace(constants.input_rule, target=1.0)
    constants = constants.replace(stimulus=50.0, rest=10.0, intensity_max=3, input_rule=rule)
    return SymSTDPClassifier(60, 6, 3, parameters=constants)


def as_images(estimator, X, kernel=None):
    """Scale the columns of a check's data to 0…1 and repeat them to the estimator's number of pixels."""
    X = np.asarray(X, dtype=float)
    low, high = X.min(0), X.max(0)
    X = (X - low) / np.where(high > low, high - low, 1)
    return np.tile(X, (1, -(-estimator.n_in // X.shape[1])))[:, : estimator.n_in]


def name_of(check):
    return getattr(check, "func", check).__name__


EVERY = [check for _, check in estimator_checks.estimator_checks_generator(tiny())]
CHECKS = [check for check in EVERY if name_of(check) not in EXEMPT]


@pytest.mark.plain
@pytest.mark.filterwarnings("ignore:.* images were silent")
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_check_of_scikit_learn(check, monkeypatch):
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", as_images)
    check(tiny())


def test_most_checks_apply():
    assert set(EXEMPT) <= {name_of(check) for check in EVERY}
    assert len(CHECKS) > 2 * len(EXEMPT)
