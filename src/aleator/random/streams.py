"""One integer seed, and as many independent streams of random numbers as there are names.

A stream is identified by a path of names, such as ``("data",)`` or ``("step", "rank", 3)``. The path is hashed with
SHA-256 and the digest becomes the spawn key of NumPy's ``SeedSequence``:

    stream(seed, path) = SeedSequence(entropy=seed, spawn_key=sha256(path))

The same seed and path give the same numbers in every process and on every machine; different paths give independent
ones. Streams are never derived by ``seed + 1``. A torch CPU generator is seeded by writing its whole Mersenne state
(624 words), because ``manual_seed`` keeps only 32 bits of its argument: 2^16 streams seeded through it may well
collide.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Name = str | int

# The memory layout of torch's CPU generator state (CPUGeneratorImplState, 5056 bytes).
_CPU_STATE = np.dtype(
    [
        ("seed", "<u8"),
        ("left", "<i4"),
        ("seeded", "<i4"),
        ("next", "<u8"),
        ("words", "<u8", 624),
        ("normal", "<f8", 3),
        ("normal_is_valid", "<i4"),
        ("padding", "<i4"),
        ("next_float_normal", "<f4"),
        ("next_float_normal_is_valid", "<u4"),
    ]
)


def _seed_sequence(seed: int, path: tuple[Name, ...]) -> np.random.SeedSequence:
    # repr keeps 1 and "1" apart and puts a separator between names.
    digest = hashlib.sha256(repr(path).encode()).digest()
    return np.random.SeedSequence(seed, spawn_key=tuple(np.frombuffer(digest, "<u4").tolist()))


def _checked_seed(seed: int) -> int:
    try:
        seed = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, got {seed!r}") from None
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return seed


def _checked_path(names: tuple[Name, ...]) -> tuple[Name, ...]:
    if not names:
        raise ValueError("a stream needs at least one name, got none")
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise ValueError(f"a stream's names are strings and integers, got {name!r}")
    return names


def derive_key(seed: int, *names: Name) -> int:
    """Return a 63-bit integer key for (seed, names): the door to random access.

    Where something must be the same for a given (seed, round) in any order of access, it is computed from a key rather
    than drawn from a generator whose state has to be carried along.

    Raises:
        ValueError: if the seed is negative or not an integer, or a name is neither a string nor an integer.
    """
    state = _seed_sequence(_checked_seed(seed), _checked_path(names)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _cpu_generator(sequence: np.random.SeedSequence) -> torch.Generator:
    words = sequence.generate_state(624)
    if not words.any():  # the one state from which a Mersenne twister never leaves
        words[0] = 1
    state = np.zeros((), _CPU_STATE)
    state["seed"], state["left"], state["seeded"] = int(words[0]), 1, 1
    state["words"] = words
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(np.frombuffer(state.tobytes(), np.uint8).copy()))
    return generator


class Streams:
    """Named, independent streams of random numbers derived from one seed.

    A stream keeps its position: asking twice for the same name gives the same generator object, and ``state_dict``
    holds the state of every stream that was used.

    Args:
        seed: any non-negative integer; all of its bits count.
        device: the device whose global generator ``scope`` swaps along with the CPU's. A CUDA device or None.

    Raises:
        ValueError: if the seed is negative or not an integer.

    Example:
        >>> streams = Streams(0)
        >>> order = torch.randperm(5, generator=streams.generator("data"))
        >>> with streams.scope("init"):
        ...     layer = torch.nn.Linear(2, 2)
    """

    def __init__(self, seed: int, device: torch.device | str | None = None) -> None:
        self.seed = _checked_seed(seed)
        self._device = torch.device(device) if device is not None else None
        self._torch: dict[tuple[str, tuple[Name, ...]], torch.Generator] = {}
        self._numpy: dict[tuple[Name, ...], np.random.Generator] = {}

    def __repr__(self) -> str:
        return f"Streams(seed={self.seed})"

    def key(self, *names: Name) -> int:
        """Return the 63-bit integer key of a name, see `derive_key`. It has no state and never changes."""
        return derive_key(self.seed, "key", *names)

    def generator(self, *names: Name, rank: int | None = None, device: torch.device | str = "cpu") -> torch.Generator:
        """Return the torch generator of a name.

        Args:
            names: the path of the stream.
            rank: makes the stream this rank's own; without it all ranks share the stream's numbers.
            device: where the generator lives. Streams of one name on different devices are different streams.

        Raises:
            ValueError: if there is no name, or one is neither a string nor an integer.
        """
        path = self._path(names, rank)
        device = torch.device(device)
        slot = (str(device), path)
        if slot not in self._torch:
            if device.type == "cpu":
                self._torch[slot] = _cpu_generator(_seed_sequence(self.seed, ("torch", *path)))
            else:  # accelerators use counter-based generators that take all 64 bits of a seed
                sequence = _seed_sequence(self.seed, ("torch", device.type, *path))
                seed = int(sequence.generate_state(1, np.uint64)[0])
                self._torch[slot] = torch.Generator(device).manual_seed(seed)
        return self._torch[slot]

    def numpy(self, *names: Name, rank: int | None = None) -> np.random.Generator:
        """Return the NumPy generator (PCG64) of a name. Arguments and errors as for `generator`."""
        path = self._path(names, rank)
        if path not in self._numpy:
            self._numpy[path] = np.random.Generator(np.random.PCG64(_seed_sequence(self.seed, ("numpy", *path))))
        return self._numpy[path]

    def worker_seeds(self, count: int, *names: Name, rank: int | None = None) -> list[int]:
        """Return one 64-bit seed for each of ``count`` worker processes, for libraries that take only an integer."""
        if count < 0:
            raise ValueError(f"count must not be negative, got {count}")
        path = self._path(names, rank)
        return [int(s) for s in _seed_sequence(self.seed, ("worker", *path)).generate_state(count, np.uint64)]

    @contextlib.contextmanager
    def scope(self, *names: Name, rank: int | None = None) -> Iterator[None]:
        """Let what torch draws from its global generator inside the block come from a stream.

        Initialisation, dropout and third-party models draw globally. The stream's state goes in at the start and is
        saved at the end; the state that was there before is put back, also after an exception. Costs a few
        microseconds. Not thread-safe, as torch's global generator is not.
        """
        swaps = [(torch.default_generator, self.generator(*names, rank=rank))]
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            # torch's stubs give every device an index; torch.device("cuda") has none.
            device = self._device
            if str(device) == "cuda":
                device = torch.device("cuda", torch.cuda.current_device())
            default = torch.cuda.default_generators[device.index]
            swaps.append((default, self.generator(*names, rank=rank, device=device)))
        before = [default.get_state() for default, _ in swaps]
        for default, own in swaps:
            default.set_state(own.get_state())
        try:
            yield
        finally:
            for (default, own), state in zip(swaps, before, strict=True):
                own.set_state(default.get_state())
                default.set_state(state)

    @contextlib.contextmanager
    def kept(self, *, except_for: tuple[Name, ...] = ()) -> Iterator[None]:
        """Put every stream back at the end of a block, so that what is drawn inside was never drawn.

        Args:
            except_for: the beginning of the paths of streams that go on.
        """
        before = self.state_dict()
        try:
            yield
        finally:
            after = {
                kind: [e for e in self.state_dict()[kind] if _begins(e, except_for)] for kind in ("torch", "numpy")
            }
            for kind, own in after.items():
                before[kind] = [entry for entry in before[kind] if not _begins(entry, except_for)] + own
            self.load_state_dict(before)

    def state_dict(self) -> dict[str, Any]:
        """Return the seed and the state of every stream used so far: tensors, integers and strings only."""
        return {
            "seed": self.seed,
            "torch": [
                {"device": device, "path": list(path), "state": generator.get_state()}
                for (device, path), generator in self._torch.items()
            ],
            "numpy": [{"path": list(path), **_pcg64_state(g)} for path, g in self._numpy.items()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put every stream back where ``state_dict`` found it, inside generators already handed out too.

        Streams that the state does not know start from their beginning.

        Raises:
            ValueError: if the state belongs to another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(f"the saved streams have seed {state['seed']}, these have seed {self.seed}")
        fresh = Streams(self.seed)
        for (device, path), generator in self._torch.items():
            generator.set_state(fresh.generator(*path, device=device).get_state())
        for path, rng in self._numpy.items():
            rng.bit_generator.state = fresh.numpy(*path).bit_generator.state
        for entry in state["torch"]:
            self.generator(*entry["path"], device=entry["device"]).set_state(entry["state"].cpu())
        for entry in state["numpy"]:
            _set_pcg64_state(self.numpy(*entry["path"]), entry)

    @staticmethod
    def _path(names: tuple[Name, ...], rank: int | None) -> tuple[Name, ...]:
        return _checked_path(names) if rank is None else (*_checked_path(names), "rank", rank)


def _begins(entry: dict[str, Any], path: tuple[Name, ...]) -> bool:
    return bool(path) and tuple(entry["path"][: len(path)]) == path


def _pcg64_state(rng: np.random.Generator) -> dict[str, Any]:
    # The 128-bit integers of the state are written in hexadecimal: no format we use has to carry them as numbers.
    state: Any = rng.bit_generator.state
    return {
        "state": hex(state["state"]["state"]),
        "inc": hex(state["state"]["inc"]),
        "has_uint32": state["has_uint32"],
        "uinteger": state["uinteger"],
    }


def _set_pcg64_state(rng: np.random.Generator, saved: dict[str, Any]) -> None:
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": int(saved["state"], 16), "inc": int(saved["inc"], 16)},
        "has_uint32": saved["has_uint32"],
        "uinteger": saved["uinteger"],
    }
