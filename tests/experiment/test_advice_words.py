"""The sentences of an answer."""

from __future__ import annotations

import pytest

from aleator.experiment import Headline
from aleator.experiment.report.advice_words import answer, duration, guarantee, sentence
from aleator.stats import Effect

ACCURACY, BITS = Headline("accuracy", "max"), Headline("bits_per_byte", "min")


def effect(arm, gain, interval, *, examples=2000, seeds=6, of_seeds=1.0, of_examples=0.1):
    return Effect(arm, gain, interval, seeds, examples, of_seeds, of_examples, 9.0, 0.99, True, 1)


def plain(text):
    return text.replace("\u202f", " ")


def test_better_on_new_data_is_said_as_the_issue_asks():
    assert plain(sentence(ACCURACY, effect("X", 0.012, (0.004, 0.020)))) == (
        "On new data like this test set, X is better by 1.2 points [0.4, 2.0] at equal time (6 seeds, 2 000 test "
        "examples, trained on this training set)."
    )


def test_without_results_by_example_only_this_training_and_test_set_is_spoken_of():
    said = sentence(ACCURACY, effect("X", 0.012, (0.004, 0.020), examples=None))
    assert said == "On this training and test set, X is better by 1.2 points [0.4, 2.0] at equal time (6 seeds)."


def test_where_less_is_better_no_sign_is_left_to_be_misread():
    said = sentence(BITS, effect("Y", -0.003, (-0.0068, 0.0009), examples=None))
    assert "it lies between 0.0068 worse and 0.0009 better in bits per byte on this" in said


def test_no_difference_found_lies_between_two_ends():
    said = sentence(ACCURACY, effect("Y", 0.001, (-0.005, 0.007), examples=None))
    assert said == (
        "Y: no difference found; it lies between −0.5 and +0.7 points on this training and test set (6 seeds)."
    )


def test_worse_has_the_size_of_the_loss():
    assert "Z is worse by 3.0 points [1.0, 5.0]" in sentence(ACCURACY, effect("Z", -0.03, (-0.05, -0.01)))
    assert "X is better by 0.012 in bits per byte [0.004, 0.021]" in sentence(BITS, effect("X", 0.0123, (0.004, 0.021)))


def test_an_end_that_is_not_zero_is_not_shown_as_zero():
    assert "by 3.00 points [0.01, 5.00]" in sentence(ACCURACY, effect("X", 0.03, (0.0001, 0.05)))


def test_an_accuracy_differs_by_no_more_than_a_hundred_points():
    assert "between −100 and +100 points" in sentence(ACCURACY, effect("X", 0.2, (-1.7, 2.1)))


def test_one_seed_claims_nothing():
    said = sentence(ACCURACY, effect("X", 0.2, None, seeds=1))
    assert said == "X: nothing is claimed, because one seed does not say how far results spread (1 seed)."


def test_what_was_not_confirmed_has_its_reason():
    said = answer(
        ACCURACY,
        [],
        not_applicable={"W": "it needs the loss of every example."},
        failed={"F": "out of memory"},
        dropped=["C", "D"],
        not_tried=["V"],
        enough_minutes=218.2,
    )
    assert said == [
        "Nothing was confirmed: there is not the time for it. One method on six seeds takes about 3.7 hours in all.",
        "W does not apply, because it needs the loss of every example.",
        "F failed: out of memory.",
        "Not confirmed, because they were behind on validation data: C and D.",
        "Not tried for lack of time: V.",
    ]


def test_where_examples_outweigh_seeds_more_test_data_would_help():
    open_question = effect("Y", 0.0, (-0.01, 0.01), of_examples=2.0)
    assert any("more seeds will not help; more test data would" in said for said in answer(ACCURACY, [open_question]))
    assert len(answer(ACCURACY, [effect("Y", 0.0, (-0.01, 0.01))])) == 1
    assert len(answer(ACCURACY, [effect("X", 0.02, (0.01, 0.03), of_examples=2.0)])) == 1  # it is found anyway


def test_tuning_and_not_a_method_made_the_gain():
    own = effect("own", -0.3, (-0.35, -0.25))
    said = answer(ACCURACY, [own, effect("Y", 0.0, (-0.01, 0.01))], own_settings="own")
    assert said[0].startswith(
        "Tuning, not a method, made the gain: on new data like this test set, your own settings, "
    )
    assert "are better by 30 points [25, 35]" in said[0]
    said = answer(ACCURACY, [own, effect("X", 0.02, (0.01, 0.03))], own_settings="own")
    assert said[0].startswith("Tuning made a gain by itself")


@pytest.mark.parametrize(
    ("minutes", "said"), [(0.5, "1 minute"), (61, "61 minutes"), (218.2, "3.7 hours"), (6000, "5 days")]
)
def test_a_duration_is_rounded_up(minutes, said):
    assert duration(minutes) == said


def test_the_guarantee_names_alpha():
    assert plain(guarantee(0.05)).startswith("With a probability of at most 5 % anything at all is claimed falsely")
