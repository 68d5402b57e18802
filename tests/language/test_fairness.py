"""The cost of the same content in each language."""

import math

import pytest
import torch

from aleator.language import BytesVocabulary, fairness_report
from aleator.language.fairness import spread_and_variation
from tests.language.small import byte_lm, magnet

TEXTS = {"en": ["All human beings", "are born free"], "ru": ["Все люди рождаются", "свободными и равными"]}
SCRIPTS = {"en": "latin", "ru": "cyrl"}


def test_a_byte_model_costs_what_the_bytes_are():
    model = byte_lm()
    report = fairness_report(model, TEXTS, anchor="en")
    sizes = {name: sum(len(line.encode()) for line in lines) for name, lines in TEXTS.items()}
    assert {name: cost.bytes for name, cost in report.languages.items()} == sizes
    assert {name: cost.segments for name, cost in report.languages.items()} == sizes
    assert report.spread == sizes["ru"] / sizes["en"] == report.languages["ru"].ratio
    assert report.languages["en"].ratio == 1
    assert model.training


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_line_that_one_language_lacks_is_left_out_in_all_and_counted(blank):
    complete = {"en": ["the cat sat", "good morning"], "xx": ["the cat sat", "good morning"]}
    gap = {"en": ["the cat sat", "a dog barked loudly", "good morning"], "xx": ["the cat sat", blank, "good morning"]}
    report, expected = (fairness_report(byte_lm(), texts, anchor="en") for texts in (gap, complete))
    assert report.languages == expected.languages
    assert report.spread == 1
    assert (report.lines, report.left_out, expected.left_out) == (2, 1, 0)
    assert report.summary().endswith("; 1 of 3 lines left out, empty in some language")
    assert "left out" not in expected.summary()


def test_bits_per_byte_do_not_depend_on_how_lines_are_batched():
    model = byte_lm()
    found = {size: fairness_report(model, TEXTS, anchor="en", batch_size=size).languages["ru"] for size in (1, 2)}
    assert found[1].bits_per_byte == pytest.approx(found[2].bits_per_byte, rel=1e-5)
    nats, predicted = 0.0, 0
    for line in TEXTS["ru"]:
        ids = torch.tensor([BytesVocabulary().encode(line)])
        nats += model.eval().loss(ids).item() * (ids.shape[1] - 1)
        predicted += ids.shape[1] - 1
    assert found[1].bits_per_byte == pytest.approx(nats / predicted / math.log(2), rel=1e-5)


def test_segments_of_a_sampling_model_are_the_expected_ones():
    model = magnet()
    reports = [
        fairness_report(
            model, TEXTS, anchor="en", scripts=SCRIPTS, generator=torch.Generator().manual_seed(seed)
        ).languages
        for seed in (0, 1)
    ]
    for name, rate in (("en", 0.2), ("ru", 0.1)):
        cost = reports[0][name]
        assert cost.segments == pytest.approx(rate * cost.bytes, rel=0.1)
        assert cost.segments == reports[1][name].segments
        assert cost.bits_per_byte != reports[1][name].bits_per_byte
        assert cost.bytes_per_second is None


def test_lines_longer_than_the_window_are_cut_and_every_byte_counts():
    model = magnet(eval_boundaries="threshold")
    report = fairness_report(model, TEXTS, anchor="en", scripts=SCRIPTS, window=7, speed=True)
    assert report.languages["en"].bytes == 29
    assert report.languages["en"].bytes_per_second > 0


def test_no_segment_at_all_is_said_and_not_divided_by():
    report = fairness_report(magnet(eval_boundaries="threshold"), TEXTS, anchor="en", scripts=SCRIPTS)
    assert math.isinf(report.spread)
    assert math.isnan(report.variation)
    assert math.isnan(report.languages["ru"].ratio)
    assert [row[4] for row in report.rows()] == ["–", "–"]


def test_spread_and_variation_are_their_formulas():
    spread, variation = spread_and_variation([1.0, 2.0, 3.0])
    assert spread == 3
    assert variation == pytest.approx(math.sqrt(2 / 3) / 2)


def test_a_row_for_each_language_and_a_line_for_all():
    report = fairness_report(byte_lm(), TEXTS, anchor="en")
    rows = report.rows()
    assert [row[0] for row in rows] == ["en", "ru"]
    assert all(len(row) == len(report.HEADINGS) for row in rows)
    assert rows[0][3] == "1.000"
    assert f"{report.spread:.3f}" in report.summary()


@pytest.mark.plain
def test_texts_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="anchor must be one of en, ru, got 'fr'"):
        fairness_report(byte_lm(), TEXTS, anchor="fr")
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        fairness_report(byte_lm(), TEXTS, anchor="en", window=0)
    with pytest.raises(ValueError, match="same number of lines"):
        fairness_report(byte_lm(), {**TEXTS, "uk": ["один"]}, anchor="en")
    with pytest.raises(ValueError, match="must have a line that no language lacks, got none in 2"):
        fairness_report(byte_lm(), {**TEXTS, "uk": ["", ""]}, anchor="en")
    with pytest.raises(ValueError, match="script must be one of latin, cyrl, indic, got 'en'"):
        fairness_report(magnet(), TEXTS, anchor="en")
