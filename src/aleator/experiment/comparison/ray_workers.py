"""Runs as tasks of a Ray cluster.

The same jobs as in `aleator.experiment.comparison.workers`, and the same numbers: a Ray task is a process of its own
here too (``max_calls=1``), computes with the same number of threads, and writes into the same folder, which every node
has to see. A worker or a node that dies is a failed run; the same command continues it from its checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from aleator.experiment.comparison.workers import Job, Outcome, Work, default_workers, outcome_of


class RayWorkers:
    """The processes of a Ray cluster.

    Args:
        address: of the cluster, as ``ray.init`` takes it; ``"local"`` starts one on this machine for as long as needed.
            Where this process is already connected to a cluster, that one is used.
        threads: cores that a run takes.
        out: the comparison's folder, which every node has to see under the same path.
        slots: runs at the same time. Default: as many as the cluster has cores for.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: if no cluster answers, no node has as many cores, or a node does not see the folder.
    """

    def __init__(self, address: str, *, threads: int, out: Path, slots: int | None = None) -> None:
        if slots is not None and slots < 1:
            raise ValueError(f"workers must be at least 1, got {slots}")
        _check_reachable(address)
        self._ray, self._connected_here = _connected(address)
        self._running: dict[Any, str] = {}
        try:
            self._check_shared(out)
            cores = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
            if max(cores) < threads:  # such a task would wait for ever
                raise ValueError(
                    f"threads must be at most the cores of a node of the cluster, {max(cores)}, got {threads}"
                )
        except BaseException:
            self.close()
            raise
        self.slots = slots if slots is not None else sum(count // threads for count in cores)
        self._task = self._ray.remote(num_cpus=threads, max_calls=1, max_retries=0)(_carry_out_here)

    def start(self, key: str, job: Job, work: Work) -> None:
        """Submit a job."""
        self._running[self._task.remote(work, json.dumps(job))] = key

    def wait(self, seconds: float) -> dict[str, Outcome]:
        """Return the jobs that ended, by key; wait for at most ``seconds``."""
        references = list(self._running)
        ended, _ = self._ray.wait(references, num_returns=1, timeout=seconds) if references else ([], [])
        if ended:  # others may have ended with it
            ended, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return {self._running.pop(reference): self._collect(reference) for reference in ended}

    def interrupt(self) -> None:
        """Ask every running job to save its state and leave; those that wait for a core are withdrawn."""
        for reference in self._running:
            self._ray.cancel(reference, force=False)

    def kill(self) -> None:
        """End every running job at once."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Withdraw what is still running and leave the cluster."""
        self.kill()
        self._running.clear()
        if self._connected_here:
            self._ray.shutdown()

    def _collect(self, reference: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            return Outcome(**json.loads(self._ray.get(reference)))
        except errors.TaskCancelledError:
            return Outcome("interrupted", "the run was withdrawn before it began or before its state was saved")
        except errors.RayError as error:
            # Ray's own lines name its logs, on the machine where the process was. Ours is in the run's folder.
            kinds = {
                errors.WorkerCrashedError: "the process of the run died, as when the system kills it for its memory",
                errors.OutOfMemoryError: "Ray killed the process of the run because memory ran out",
                errors.NodeDiedError: "the node of the run died",
            }
            said = next((text for kind, text in kinds.items() if isinstance(error, kind)), None)
            line = said or " ".join(str(error).split())[:500]
            return Outcome("failed", f"{line} ({type(error).__name__})")

    def _check_shared(self, out: Path) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        out.mkdir(parents=True, exist_ok=True)
        token = out.resolve() / f".aleator-shared-{secrets.token_hex(8)}"
        token.write_text(token.name)
        try:
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
            look = self._ray.remote(num_cpus=0, max_retries=0)(_read_token)
            seen = {
                node["NodeManagerAddress"]: look.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(str(token))
                for node in nodes
            }
            for address, reference in seen.items():
                if self._ray.get(reference) != token.name:
                    raise ValueError(
                        f"the Ray node {address} does not see the folder {out.resolve()}; "
                        f"choose one with --out that all nodes share under the same path"
                    )
        finally:
            token.unlink()


def _connected(address: str) -> tuple[Any, bool]:
    """Return the module ray with a connection, and whether the connection was made here."""
    # Read by Ray when it is imported and started: nothing is reported home.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ImportError("--ray needs the extra 'ray': pip install 'aleator[ray]'") from None
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        ray.init(
            address="local",
            num_cpus=default_workers(1),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return ray, True
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise ValueError(f"no Ray cluster answers at {address!r}: {line}") from None
    return ray, True


def _carry_out_here(work: Work, job: str) -> str:
    return json.dumps(dataclasses.asdict(outcome_of(work, json.loads(job))))


def _read_token(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return None


def _check_reachable(address: str) -> None:
    """Refuse an address that nobody answers at: Ray itself would try for many minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at {address!r}: {error}") from None
