"""One process of a swarm, from the options of the recipe: the manifest, the weights, and gradients by two evaluations.

It is shared by the run (`aleator.recipes.decentral.task`) and by the processes that ``--peers`` starts
(`aleator.recipes.decentral.local_peer`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aleator.distributed import GradientLog, Manifest, Member, Peer, Replica, Step, Traffic, Transport, fingerprint
from aleator.distributed.addresses import secret_from_environment
from aleator.gradients import NonFiniteLoss, spsa
from aleator.random import Streams
from aleator.recipes.decentral.tasks import SwarmTask, make_task
from aleator.version import library_version

if TYPE_CHECKING:
    from aleator.recipes.decentral.options import Decentral


class Machine:
    """A process's part in a swarm: what is learned, the weights, and once it is joined the place among the others.

    Attributes:
        problem: what is learned.
        start: θ₀.
        parameters: the weights, which are those of ``problem.network``.
        forwards: evaluations of the loss on a batch so far.
        not_finite: gradients that were not finite and travelled as zero.
        losses: means of the two sides, of the last round.
        traffic: bytes that travelled.
    """

    def __init__(self, options: Decentral, seed: int) -> None:
        self.options = options
        self.run = Streams(seed).key("swarm")
        self.problem: SwarmTask = make_task(options, self.run)
        self.start = {name: value.clone() for name, value in self.problem.theta.items()}
        self.parameters = self._in_place()
        self.secret = secret_from_environment()
        self.manifest = Manifest(
            run=self.run,
            theta0=fingerprint(self.start).hex(),
            names=tuple(sorted(self.start)),
            codec=options.codec,
            directions=options.directions,
            norm=options.norm,
            lr=float(options.rate),
            weight_decay=float(options.weight_decay),
            samples=options.samples,
            robust=options.robust,
            hash_every=options.hash_every,
            signed=self.secret is not None,
            code=library_version(),
        )
        self.log = GradientLog(self.manifest)
        self.replica = Replica(self.parameters, self.manifest)
        self.forwards = self.not_finite = 0
        self.losses: list[float] = []
        self.traffic = Traffic()
        self.peer: Peer | None = None

    def join(self, transport: Transport, stop_requested: Callable[[], bool], again: tuple[int, ...] = ()) -> Peer:
        """Take the place among the others.

        Args:
            transport: the board.
            stop_requested: asked while waiting.
            again: the numbers that the machines here had before.
        """
        options = self.options
        member = Member(
            transport,
            self.log,
            min_machines=options.needed,
            round_timeout=10.0 if options.round_timeout is None else options.round_timeout,
            secret=self.secret,
            stop_requested=stop_requested,
            traffic=self.traffic,
        )
        self.peer = Peer(member, self.replica, lambda: self.start, options.snapshot_every)
        member.join(options.machines_here, again=again)
        return self.peer

    def step(self, most: int) -> Step:
        """Go on by a round, or by at most so many that are agreed already."""
        assert self.peer is not None
        self.losses = []
        return self.peer.step(self._gradients, most)

    def _gradients(self, number: int, machine: int) -> list[float]:
        return [self._gradient(number, machine, sample) for sample in range(self.options.samples)]

    def _gradient(self, number: int, machine: int, sample: int) -> float:
        batch = self.problem.batch(number, machine, sample)
        seen: list[Tensor] = []

        def loss(theta: dict[str, Tensor]) -> Tensor:
            value = self.problem.loss(theta, batch)
            seen.append(value.detach())
            return value

        key = (self.run, number, machine, sample)
        self.forwards += 2
        try:
            found = spsa(loss, self.parameters, None, self.options.eps, key=key, kind=self.options.directions)
        except NonFiniteLoss:
            self.not_finite += 1
            return 0.0
        self.losses.append(float(torch.stack(seen).double().mean()))
        return float(found)

    def _in_place(self) -> dict[str, Tensor]:
        """Return θ₀ as the network's own weights, so that the network is the swarm's at every moment."""
        found = {}
        own = dict(self.problem.network.named_parameters())
        with torch.no_grad():
            for name, value in self.start.items():
                if own[name].dtype == value.dtype:
                    own[name].copy_(value)
                    found[name] = own[name].detach()
                else:  # a network in half precision: these are the master copy
                    found[name] = value.clone()
        return found
