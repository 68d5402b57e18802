"""Fixtures that several rooms share."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]

# The same examples in every run, and no deadline: the machine may be busy.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The local mirror of real data. ``.ci/run`` fails without it, so that no test skips unseen."""
    root = Path(os.environ.get("ALEATOR_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "mnist").is_dir():
        pytest.skip(f"no data at {root}: set ALEATOR_DATA to a mirror")
    return root


@pytest.fixture
def mirror(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local mirror, as ``ALEATOR_DATA`` of this test."""
    monkeypatch.setenv("ALEATOR_DATA", str(data_root))
    return data_root


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The spiking loops, compiled once: other workers wait and read numba's cache, instead of compiling as well."""
    import numpy as np
    import torch
    from filelock import FileLock

    from aleator.spiking import EventEngine, SpikingState, preset, sample_keys

    parameters = preset("hao2019-mnist-100").replace(stimulus=1.0, rest=0.5, intensity_max=2)
    state = SpikingState.initial(2, 2, 2, parameters, torch.Generator().manual_seed(0))
    with FileLock(tmp_path_factory.getbasetemp().parent / "spiking-kernels.lock"):
        engine = EventEngine(parameters)
        engine.train(state, np.zeros((1, 2)), np.zeros(1, np.int64), sample_keys(0, "train", 0, 1), "both")
        engine.simulate(state, torch.zeros(1, 2, dtype=torch.bool))


@pytest.fixture(autouse=True)
def _one_thread_and_an_untouched_global_generator():
    """No test of ours may leave torch's global generator elsewhere than it found it."""
    import torch

    torch.set_num_threads(1)
    before = torch.random.get_rng_state()
    yield
    after = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    assert torch.equal(before, after), "the test, or the code it ran, drew from torch's global generator"
