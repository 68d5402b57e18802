"""A script that has no boundary any more is reported by its name."""

import logging

import pytest
import torch

from aleator.language import CollapseMonitor
from tests.language.small import batch, magnet


def test_a_script_without_boundaries_is_reported_once_by_name(caplog):
    model, monitor = magnet(), CollapseMonitor(steps=3)
    with torch.no_grad():
        model.predictor("indic").output.bias.fill_(-50)
    ids, noise = batch(2)
    with caplog.at_level(logging.WARNING, logger="aleator"):
        for step in range(9):
            _, parts = model.loss(ids, ["latin", "indic"], noise=noise)
            monitor.update(parts.rate)
            assert monitor.collapsed == ({"indic"} if step >= 2 else set())
    assert [record.getMessage() for record in caplog.records] == [
        "script indic had no boundary in 3 steps: its predictor has collapsed"
    ]


def test_one_boundary_in_a_window_is_enough(caplog):
    monitor = CollapseMonitor(steps=3)
    for rate in (0.0, 0.0, 0.1, 0.0, 0.0):
        monitor.update({"latin": torch.tensor(rate)})
    assert not monitor.collapsed
    monitor.update({"latin": torch.tensor(0.0)})
    assert monitor.collapsed == {"latin"}


def test_steps_without_the_script_do_not_count():
    monitor = CollapseMonitor(steps=2)
    monitor.update({"latin": torch.tensor(0.0)})
    for _ in range(5):
        monitor.update({"cyrl": torch.tensor(0.1)})
    assert not monitor.collapsed


@pytest.mark.plain
def test_a_window_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        CollapseMonitor(0)
