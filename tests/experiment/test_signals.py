"""Requests to stop: the signals that a run heeds."""

import signal

import pytest

from aleator.experiment.signals import StopRequests


@pytest.fixture
def disposition():
    """A function that sets what SIGINT does, undone after the test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda what: signal.signal(signal.SIGINT, what)
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_counts_every_time_and_termination_once(disposition):
    disposition(signal.default_int_handler)
    said = []
    with StopRequests(lambda: said.append("first"), lambda: said.append("again")) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.received()
    assert said == ["first", "again"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_was_ignored_before_stays_ignored_and_termination_is_heard(disposition):
    disposition(signal.SIG_IGN)
    said = []
    with StopRequests(lambda: said.append("first"), lambda: said.append("again")) as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.received()
        signal.raise_signal(signal.SIGTERM)
        assert stop.received()
    assert said == ["first"]
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
