"""Fixtures that several rooms share."""

import os
import signal
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.experiment.injection import Warm

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]

# The same examples in every run, and no deadline: the machine may be busy.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


# Whole runs are tested as users run them. Shapes are checked where a function is tested by itself: at every call of
# every step of a run the checks would take more time than the run.
WHOLE = ("commands", "experiment", "experiments", "recipes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files unread whose tests -m leaves out: to read all of them takes as long as hundreds of tests."""
    if collection_path.suffix != ".py" or config.option.markexpr not in ("plain", "not plain"):
        return None
    whole = _is_whole(collection_path)
    if config.option.markexpr == "not plain":
        return whole or None
    return (not whole and "plain" not in collection_path.read_text()) or None


def _is_whole(path: Path) -> bool:
    room, *inside = path.relative_to(REPOSITORY / "tests").parts
    return room in WHOLE or not inside


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_whole(item.path):
            item.add_marker("plain")
        # What the tests of a file share is made once: they run in one process (--dist loadgroup).
        shared = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
        if any(definitions[-1].scope in ("module", "class") for definitions in shared):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(REPOSITORY).as_posix()))


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
def warm() -> Iterator[Warm]:
    """An interpreter that forks a child for every command or script; it takes seconds to start, so tests share it."""
    interpreter = Warm()
    yield interpreter
    interpreter.close()


@pytest.fixture(scope="session")
def processes(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Carry out a program in several processes, as torchrun does, and return what each wrote to standard output.

    ``processes(program, count, *args, timeout=240)``: `program` is the path of a Python file, whose ``sys.argv[1:]``
    are `args`. A process that fails fails the test, with what all of them wrote.
    """

    def launch(program: Path, count: int, *args: object, timeout: float = 240) -> list[str]:
        folder = tmp_path_factory.mktemp("processes")
        ending = warm.launch(folder, count, [str(program), *map(str, args)], timeout)

        def wrote(name: str, rank: int) -> str:
            file = folder / f"{name}-{rank}"
            return file.read_text(errors="replace") if file.exists() else ""

        if ending.code != 0:
            ends = [
                f"rank {rank}, exit {wrote('exit', rank) or 'none'}:\n{wrote('err', rank)[-3000:]}"
                for rank in range(count)
            ]
            pytest.fail("\n".join([f"{program} failed in {count} processes", ending.err[-2000:], *ends]), pytrace=False)
        return [wrote("out", rank) for rank in range(count)]

    return launch


@pytest.fixture(scope="session")
def one_compiles(tmp_path_factory: pytest.TempPathFactory) -> FileLock:
    """Held by who compiles the spiking loops: others wait and read numba's cache, instead of compiling as well."""
    return FileLock(tmp_path_factory.getbasetemp().parent / "kernels.lock")


@pytest.fixture(scope="session")
def compiled_kernels(one_compiles: FileLock) -> None:
    """The compiled loops, here."""
    with one_compiles:
        import_module("tests.kernels")


@pytest.fixture(scope="session")
def warm_kernels(warm: Warm, one_compiles: FileLock) -> None:
    """The compiled loops, in the interpreter that forks a child for every command."""
    with one_compiles:
        warm.get_ready("tests.kernels")


@pytest.fixture(scope="session")
def compiled_steps(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The loops of LAMB and LARS, compiled once: other workers wait and read numba's cache."""
    import torch
    from filelock import FileLock

    from aleator.optim import LAMB, LARS
    from aleator.optim.large_batch import fused

    with FileLock(tmp_path_factory.getbasetemp().parent / "step-kernels.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "LEAST_ELEMENTS", 0)
        for dtype in (torch.float32, torch.float64):
            weight = torch.ones(1, dtype=dtype, requires_grad=True)
            weight.grad = torch.ones_like(weight)
            for optimizer in (LAMB([weight]), LARS([weight], 0.1), LARS([weight], 0.1, form="algorithm1")):
                optimizer.step()


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
