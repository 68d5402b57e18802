"""The task behind the recipe ``decentral``: one process's part in a swarm, as a run that can be killed and resumed.

A step is a round: two evaluations for each gradient, one exchange, one application of everybody's gradients; or, behind
the others, rounds of the log. A run that is resumed has its weights and its log from the checkpoint, takes its old
number, appends to the board what that lost, and applies what it missed.

Everything random has an address in (seed, round, machine, sample); no stream is used.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from aleator.distributed import Address, GradientLog, RedisTransport, Traffic, Transport, in_process, tcp_store
from aleator.experiment import Budget, Exhibit, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.decentral import exhibits
from aleator.recipes.decentral.local_peer import launch
from aleator.recipes.decentral.machine import Machine

if TYPE_CHECKING:
    from subprocess import Popen

    from aleator.recipes.decentral.options import Decentral

_log = logging.getLogger("aleator.distributed")


class SwarmedTask:
    """A process's part in a swarm; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")

    def __init__(self, options: Decentral, streams: Streams, accelerator: Accelerator) -> None:
        if accelerator.num_processes > 1:
            raise ValueError(
                f"decentral must run in one process, got {accelerator.num_processes}: "
                f"machines meet through --join or --peers"
            )
        self.options, self._seed = options, streams.seed
        self.machine = Machine(options, streams.seed)
        self.budget = Budget(options.rounds, "rounds")
        self.stop_requested: Callable[[], bool] = lambda: False
        self.curve: list[dict[str, float]] = []
        self._numbers: tuple[int, ...] = ()
        self._counted = 0
        self._others: list[Popen[bytes]] = []

    @property
    def model(self) -> nn.Module:
        """The network with the swarm's weights."""
        return self.machine.problem.network

    def saved_models(self) -> dict[str, nn.Module]:
        """Return the network as it was before the first round: what a log is checked against."""
        network = copy.deepcopy(self.machine.problem.network)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in self.machine.start:
                    parameter.copy_(self.machine.start[name])
        return {"start": network}

    def begin(self) -> None:
        """Meet the others, once."""
        if self.machine.peer is not None:
            return
        if self.options.log is not None:
            self._keep_log()
        first = not self._numbers
        if not first and len(self._numbers) != self.options.machines_here:
            here = self.options.machines_here
            raise ValueError(f"join must be given: this run is one machine of a swarm, which {here} machines cannot be")
        transport = self._transport()
        peer = self.machine.join(transport, self._stopped, self._numbers)
        self._numbers = peer.member.machines
        if first and self.options.enter_by == "snapshot" and not peer.load_snapshot(self.options.rounds):
            _log.warning("%s holds no snapshot before round %d; joining by replay",
                         transport.describe(), self.options.rounds)  # fmt: skip

    def train_batches(self) -> Iterator[int]:
        """Yield the next round. Batches are drawn by address, by the machine itself."""
        self.begin()  # where steps are taken without the run loop, as to measure their time
        while True:
            yield self.machine.replica.round

    def train_step(self, batch: int) -> StepResult:
        """Take part in a round, or apply rounds that were agreed without this machine."""
        machine = self.machine
        step = machine.step(self.options.rounds - machine.replica.round)
        if step.applied == 0 and not self.stop_requested() and (broken := self._broken()) is not None:
            raise RuntimeError(broken)
        last = machine.replica.round >= self.options.rounds
        if last or self.stop_requested():
            self._leave()
        metrics = {}
        if machine.losses and step.commit is not None:
            metrics["loss"] = torch.tensor(np.mean(machine.losses))
            metrics["machines"] = torch.tensor(float(len(step.commit.machines)))
        # Weights that were built again from θ₀ go the same way twice; that is no progress.
        progress = max(0, machine.replica.round - self._counted)
        self._counted += progress
        examples = len(machine.losses) * self.options.batch_size
        return StepResult(metrics, progress=progress, examples=examples)

    def totals(self) -> dict[str, float]:
        """Return what was computed and what travelled so far."""
        return {
            "forward_passes": float(self.machine.forwards),
            "not_finite": float(self.machine.not_finite),
            **{f"bytes_{name}": float(count) for name, count in vars(self.machine.traffic).items()},
        }

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return loss and accuracy, and what they cost until now."""
        found = self.machine.problem.evaluate(self.machine.parameters, split)
        traffic = self.machine.traffic
        cost = {
            "rounds": float(self.machine.replica.round),
            "forward_passes": float(self.machine.forwards),
            "bytes_sent": float(traffic.gradients_sent + traffic.headers_sent),
            "gradient_bytes_sent": float(traffic.gradients_sent),
        }
        if split == "validation":
            self.curve.append({**cost, "loss": found["loss"], "accuracy": found["accuracy"]})
        return {**found, **cost}

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the loss against rounds, forward passes and bytes."""
        return exhibits.costs(self.curve) if self.curve else []

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the log up to them, this machine's numbers, and what was counted."""
        machine = self.machine
        return {
            "weights": {name: value.clone() for name, value in machine.parameters.items()},
            "round": machine.replica.round,
            "log": torch.frombuffer(bytearray(machine.log.to_bytes()), dtype=torch.uint8),
            "machines": list(self._numbers),
            "traffic": dict(vars(machine.traffic)),
            "forwards": machine.forwards,
            "not_finite": machine.not_finite,
            "counted": self._counted,
            "curve": [dict(point) for point in self.curve],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called.

        Raises:
            ValueError: if the log is another swarm's.
        """
        machine = self.machine
        log = GradientLog.from_bytes(state["log"].numpy().tobytes())
        machine.manifest.check_against(log.manifest)
        machine.log = log
        machine.replica.reset(state["weights"], state["round"])
        machine.forwards, machine.not_finite = state["forwards"], state["not_finite"]
        self._numbers = tuple(state["machines"])
        self._counted, self.curve = state["counted"], state["curve"]
        machine.traffic = Traffic(**state["traffic"])

    # --- meeting the others ----------------------------------------------------------------------------------------

    def _transport(self) -> Transport:
        options = self.options
        if options.join is not None:
            address = Address.parse(options.join)
            if address.scheme == "store":
                return tcp_store(address.host, address.port)[0]
            return RedisTransport(address)
        if options.peers is None:
            return in_process()
        transport, port = tcp_store("127.0.0.1", 0, serve=True)
        self._others = [launch(options, self._seed, port, number) for number in range(1, options.peers)]
        self._numbers = (0,)
        return transport

    def _keep_log(self) -> None:
        """Go on with the log in its file: what it has more than the checkpoint counts where others have it as well."""
        path, log = self.options.log, self.machine.log
        assert path is not None
        if not path.exists():
            self.machine.log = log.suffix(0, log.weights, path)
            return
        kept = GradientLog.open(path, writable=True)
        if kept.cut_off:
            _log.warning("%s was cut off by %d bytes; it goes on from round %d", path, kept.cut_off, kept.next_round)
        if kept.manifest != self.machine.manifest:
            raise ValueError(f"log must be a file of this swarm or a new one, got {path}, the log of another swarm")
        for number in range(min(log.next_round, kept.next_round), log.next_round):
            kept.append(log.raw(number))
        if self.options.join is None and kept.next_round > log.next_round:
            # A run without others is computed again, with its metrics.
            _log.warning("%s held %d rounds: they are computed again from round %d", path, len(kept), log.next_round)
            kept.rewind(log.next_round)
        self.machine.log = kept

    def _stopped(self) -> bool:
        return self.stop_requested() or self._broken() is not None

    def _broken(self) -> str | None:
        """Return what keeps the processes that were started here from going on, if something does."""
        # Who ended with 0 has seen the last round, so that it is on the board.
        ended = [(n, code) for n, other in enumerate(self._others, 1) if (code := other.poll()) not in (None, 0)]
        if ended and 1 + len(self._others) - len(ended) < self.options.needed:
            return f"machine {ended[0][0]} ended with exit code {ended[0][1]}, and a round needs {self.options.needed}"
        return None

    def _leave(self) -> None:
        """Tell the others that this machine goes, and let those that were started here go as well."""
        if self.machine.peer is not None:
            self.machine.peer.member.leave()
        for other in self._others:
            assert other.stdin is not None
            with contextlib.suppress(OSError):
                other.stdin.close()
        for other in self._others:
            other.wait()
        self._others = []
