"""Fixtures that tests of the run loop share."""

from collections.abc import Iterator

import pytest

from tests.experiment.injection import Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """An interpreter that forks a child for every command; one for all tests, as it takes seconds to start."""
    interpreter = Warm()
    yield interpreter
    interpreter.close()
