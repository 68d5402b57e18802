"""A model, a loss and batches, trained by a swarm: each machine sends a byte for a gradient, and weights stay equal.

    opt = SPSAOptimizer(model.named_parameters(), lr=1e-6, generator_key=2026)
    trainer = OneByteTrainer(model, loss_fn, loader, opt, Swarm("redis", address="redis://…"))
    trainer.fit(rounds=1000)

In round k machine m estimates the slopes along directions z(run, k, m, s) for s = 0, 1, …, each from a batch of its own
(`SPSAOptimizer.probe`). What all handed in is agreed, and everybody takes the step (`Replica`)

    θ ← θ − λ wd θ − λ/√n Σ decode(code_ms) z(run, k, m, s),      in the order of machines, then samples

on the optimizer's master copies, whose values the model then has. So θ₀ and the log are the weights, bit for bit:
`GradientLog.replay` leads to them. Who changes what decides that, the rate among it, is refused.

E. Zelikman, Q. Huang, P. Liang, N. Haber, N. D. Goodman, "Just One Byte (per gradient)", arXiv 2306.10015.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from aleator.distributed.addresses import secret_from_environment
from aleator.distributed.log import GradientLog
from aleator.distributed.manifest import WIDTHS, Manifest
from aleator.distributed.member import Member, Traffic
from aleator.distributed.peer import Peer
from aleator.distributed.replica import Replica, fingerprint
from aleator.distributed.swarm import Swarm, check_count
from aleator.gradients import NonFiniteLoss
from aleator.optim import SPSAOptimizer
from aleator.version import library_version

_log = logging.getLogger("aleator.distributed")

_IN_ONE_PASS = 64  # rounds of a replay; Ctrl-C is heard between them
_OF_THE_SWARM = ("lr", "weight_decay", "directions", "codec", "norm", "generator_key")


class OneByteTrainer:
    """Training as a machine of a swarm, or as several.

    All machines need the same weights to begin with and the same options of the optimizer, whose ``generator_key`` is
    the swarm's seed; what differs is refused by the name of the first difference. Batches are each machine's own.

    In float32 there are three copies of what is trained: the model's, the optimizer's and, in the host's memory, θ₀.
    In half precision the weights of the swarm are the master copies in float32. Nothing here draws from torch's
    generators; dropout, for which both sides of a probe have one mask, and a loader that shuffles do, as in any loop.
    Buffers, such as running statistics, are each machine's own: put such layers into evaluation mode.

    Args:
        model: called with the inputs of a batch, in the mode in which it is.
        loss_fn: from outputs and targets to a scalar in float32 at least, as in `aleator.optim.CurvatureOperator`. A
            batch that is a mapping, as for language models, is passed to the model by its names, and is the targets:
            ``lambda outputs, batch: outputs.loss``.
        loader: batches ``(inputs, targets)``, or mappings. Every gradient takes the next one; after the last a new pass
            begins, whose number ``set_epoch`` of the samplers is told.
        opt: made from the named parameters of all that the model trains, with ``restore="master"``, one rate for all,
            and no step taken. Its options are the swarm's; its own steps are not to be taken.
        swarm: where machines meet.
        samples_per_round: gradients of each machine in a round, at least 1.
        hash_every: machines compare all weights before every round that this divides, at least 1.

    Attributes:
        log: the rounds so far.
        traffic: bytes that travelled.
        not_finite: gradients that were not finite and travelled as zero.

    Raises:
        ValueError: if an option is out of its range, or the optimizer is not as above.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> opt = SPSAOptimizer(model.named_parameters(), lr=1e-2, generator_key=2026)
        >>> loader = [(torch.ones(4, 3), torch.zeros(4, 1))]
        >>> swarm = Swarm("local", machines=2)
        >>> trainer = OneByteTrainer(model, torch.nn.functional.mse_loss, loader, opt, swarm, samples_per_round=4)
        >>> losses = trainer.fit(rounds=20)
        >>> losses[19] < losses[0]
        True
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        loader: Iterable[Any],
        opt: SPSAOptimizer,
        swarm: Swarm,
        samples_per_round: int = 8,
        hash_every: int = 64,
    ) -> None:
        if not isinstance(swarm, Swarm):
            raise ValueError(f"swarm must be a Swarm, got {type(swarm).__name__}")
        _check_optimizer(opt, model)
        self._options = options = _options(opt)
        most = ((1 << 16) - 1) // WIDTHS[options["codec"]]
        check_count("samples_per_round", samples_per_round)
        check_count("hash_every", hash_every)
        if samples_per_round > most:
            raise ValueError(f"samples_per_round must be in [1, {most}], got {samples_per_round}")
        self.model, self.loss_fn, self.opt, self.swarm = model, loss_fn, opt, swarm
        self.samples_per_round = samples_per_round
        self.not_finite = 0
        self.traffic = Traffic()
        self._batches = _Batches(loader)
        self._secret = secret_from_environment()
        masters = opt.masters()
        self._start = {name: master.to("cpu", copy=True) for name, master in masters.items()}
        manifest = Manifest(
            run=options["generator_key"],
            theta0=fingerprint(self._start).hex(),
            names=tuple(sorted(self._start)),
            codec=options["codec"],
            directions=options["directions"],
            norm=options["norm"],
            lr=options["lr"],
            weight_decay=options["weight_decay"],
            samples=samples_per_round,
            robust="none",
            hash_every=hash_every,
            signed=self._secret is not None,
            code=library_version(),
        )
        self.log = GradientLog(manifest)
        self._replica = Replica(masters, manifest)
        opt.adopt_masters(0)
        self._peer: Peer | None = None
        self._numbers: tuple[int, ...] = ()
        self._losses: list[float] = []
        self._whole = True  # the model holds the weights that the log leads to
        self._stopped: Callable[[], bool] = lambda: False

    @property
    def round(self) -> int:
        """How many rounds were applied to the weights."""
        return self._replica.round

    def fit(self, rounds: int) -> dict[int, float]:
        """Take part in rounds until the swarm has had a number of them; a machine that is late applies the log first.

        Ctrl-C breaks the round off, leaves the swarm, so that nobody waits for this machine, and raises
        KeyboardInterrupt; the model then has the weights before the round `round`. Pressed twice it does so at once.
        Further calls go on as the same machines.

        Args:
            rounds: in all, not only in this call; at least 1. Nothing is done where `round` is as large already.

        Returns:
            the mean loss of this process's batches in each round that it took part in, by the number of the round.

        Raises:
            ValueError: if a number is out of its range, the board cannot be reached or another swarm is on it, the
                loader is empty, a loss is no scalar, or somebody changed the weights or the optimizer's options.
            Diverged: if this machine computes other numbers than the swarm.
        """
        check_count("rounds", rounds)
        self._make_whole()
        self._check_untouched()
        history: dict[int, float] = {}
        if self.round >= rounds:
            return history
        with _ctrl_c_held_back() as self._stopped:
            peer = self._join(rounds)
            try:
                while self.round < rounds and not self._stopped():
                    self._losses, self._whole = [], False
                    step = peer.step(self._gradients, min(rounds - self.round, _IN_ONE_PASS))
                    self.opt.adopt_masters(self.round)
                    self._whole = True
                    if step.commit is not None and self._losses and set(self._numbers) & set(step.commit.machines):
                        history[step.commit.round] = statistics.fmean(self._losses)
            finally:
                peer.member.leave()
                self._make_whole()
        return history

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the log, this process's numbers in the swarm, and what was counted.

        ``torch.save`` it, and a machine that was killed goes on as the same one. The optimizer needs no saving.
        """
        self._make_whole()
        return {
            "weights": {name: master.clone() for name, master in self._replica.parameters.items()},
            "round": self.round,
            "log": torch.frombuffer(bytearray(self.log.to_bytes()), dtype=torch.uint8),
            "machines": list(self._numbers),
            "traffic": dict(vars(self.traffic)),
            "not_finite": self.not_finite,
            "passes": self._batches.passes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called, in a trainer that began with the same weights. The loader begins a pass.

        Raises:
            ValueError: if the state is of another swarm or of another number of machines; before anything is changed.
        """
        log = GradientLog.from_bytes(state["log"].cpu().numpy().tobytes())
        log.manifest.check_against(self.log.manifest)
        numbers = tuple(state["machines"])
        if numbers and len(numbers) != self.swarm.machines:
            raise ValueError(f"machines must be {len(numbers)} as in the saved state, got {self.swarm.machines}")
        for name, weight in self._start.items():
            if name not in state["weights"] or state["weights"][name].shape != weight.shape:
                raise ValueError(f"state must hold weights of shape {tuple(weight.shape)} for {name}")
        self.log, self._numbers, self._peer = log, numbers, None
        self.traffic, self.not_finite = Traffic(**state["traffic"]), state["not_finite"]
        self._batches = _Batches(self._batches.loader, state["passes"])
        self._replica.reset(state["weights"], state["round"])
        self.opt.adopt_masters(self.round)

    def _join(self, rounds: int) -> Peer:
        """Take the old place in the swarm, or a new one."""
        if self._peer is None:
            member = Member(
                self.swarm.connect(),
                self.log,
                min_machines=self.swarm.min_machines,
                round_timeout=self.swarm.round_timeout,
                secret=self._secret,
                traffic=self.traffic,
            )
            every = self.swarm.snapshot_every or self.log.manifest.hash_every
            snapshots = every if self.swarm.join == "snapshot" else None
            self._peer = Peer(member, self._replica, lambda: self._start, snapshots)
        peer, first = self._peer, not self._numbers
        peer.member.stop_requested = self._stopped
        self._numbers = peer.member.join(self.swarm.machines, again=self._numbers)
        if first and self.swarm.join == "snapshot" and peer.member.transport.last() >= 0:
            if peer.load_snapshot(rounds):
                self.opt.adopt_masters(self.round)
            else:
                _log.warning("%s holds no snapshot before round %d; joining by replay",
                             peer.member.transport.describe(), rounds)  # fmt: skip
        return peer

    def _gradients(self, number: int, machine: int) -> list[float]:
        self._check_options()
        return [self._gradient(machine, sample) for sample in range(self.samples_per_round)]

    def _gradient(self, machine: int, sample: int) -> float:
        if self._stopped():  # between probes the weights are whole
            raise KeyboardInterrupt
        batch = self._batches.take()
        sides: list[Tensor] = []

        def closure() -> Tensor:
            sides.append(_loss(self.model, self.loss_fn, batch))
            return sides[-1]

        try:
            g = self.opt.probe(closure, machine=machine, sample=sample)
        except NonFiniteLoss:
            self.not_finite += 1
            return 0.0
        self._losses.append(statistics.fmean(float(side) for side in sides))
        return g

    def _check_untouched(self) -> None:
        """Refuse weights and options that somebody changed between two calls."""
        self._check_options()
        _check_held(self.opt, self.model)
        weights = _named(self.opt)
        for name, master in self._replica.parameters.items():
            weight = weights.get(name)
            if weight is None or not torch.equal(master.to(weight.dtype), weight):
                raise ValueError(f"the model must keep the weights of the swarm, {name} was changed")
            if self.opt.state[weight].get("master") is not master:
                raise ValueError("opt must keep its state in a swarm, another one was loaded: load that of the trainer")

    def _make_whole(self) -> None:
        """Put the weights of the log into the model where a step of `fit` was broken off."""
        if self._whole:
            return
        try:
            self._replica.check_untouched()
        except ValueError:  # a second Ctrl-C while a round was applied
            _log.warning("a round was applied in part; the weights are built again from θ₀")
            self._replica.reset(self._start, 0)
        self.opt.adopt_masters(self.round)
        self._whole = True

    def _check_options(self) -> None:
        for name, value in _options(self.opt).items():
            if value != self._options[name]:
                raise ValueError(
                    f"{name} of opt must stay {self._options[name]} in a swarm, which agreed on it, got {value}"
                )


class _Batches:
    """The batches of a loader, pass after pass."""

    def __init__(self, loader: Iterable[Any], passes: int = 0) -> None:
        self.loader, self.passes = loader, passes
        self._left: Iterator[Any] = iter(())

    def take(self) -> Any:
        """Return the next batch.

        Raises:
            ValueError: if a pass holds none.
        """
        for batch in self._left:
            return batch
        for part in (getattr(self.loader, name, None) for name in ("batch_sampler", "sampler")):
            if callable(set_epoch := getattr(part, "set_epoch", None)):
                set_epoch(self.passes)
        self._left = iter(self.loader)
        self.passes += 1
        for batch in self._left:
            return batch
        raise ValueError(f"loader must hold at least one batch in each pass, got none in pass {self.passes}")


def _loss(model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: Any) -> Tensor:
    loss: Any
    if isinstance(batch, Mapping):
        loss = loss_fn(model(**batch), batch)
    elif isinstance(batch, tuple | list) and len(batch) == 2:
        loss = loss_fn(model(batch[0]), batch[1])
    else:
        got = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(f"loader must give batches (inputs, targets) or mappings, got {got}")
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        got = f"shape {tuple(loss.shape)} of {loss.dtype}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn must return a scalar tensor, got {got}")
    if loss.dtype not in (torch.float32, torch.float64):  # the two sides differ in digits that others do not have
        raise ValueError(f"loss_fn must return float32 or float64, got {loss.dtype}")
    return loss.detach()


def _check_optimizer(opt: SPSAOptimizer, model: nn.Module) -> None:
    if not isinstance(opt, SPSAOptimizer):
        raise ValueError(f"opt must be an SPSAOptimizer, got {type(opt).__name__}")
    groups = opt.param_groups
    if "param_names" not in groups[0]:
        raise ValueError("opt must be made from model.named_parameters(), got parameters without names")
    if groups[0]["restore"] != "master":
        raise ValueError(f"restore of opt must be master in a swarm, got {groups[0]['restore']}")
    if opt.round:
        raise ValueError(f"opt must have taken no step before it is in a swarm, got one after {opt.round}")
    _check_held(opt, model)
    if sharded := [name for name, parameter in _named(opt).items() if isinstance(parameter, DTensor)]:
        raise ValueError(f"the model must be whole on its machine in a swarm, got a DTensor for {sharded[0]}")


def _check_held(opt: SPSAOptimizer, model: nn.Module) -> None:
    """Refuse parameters that one of them does not have, or has another one for."""
    # By themselves, not by names: a compiled or wrapped model has others.
    trained = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    own = {id(parameter): name for name, parameter in _named(opt).items()}
    if odd := trained.keys() ^ own.keys():
        name = min(own[number] if number in own else trained[number] for number in odd)
        raise ValueError(f"opt must hold just what the model trains, got {name} in one of them only")


def _named(opt: SPSAOptimizer) -> dict[str, Tensor]:
    return {
        name: parameter
        for group in opt.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        if parameter.requires_grad
    }


def _options(opt: SPSAOptimizer) -> dict[str, Any]:
    """Return what the swarm agreed on, of all groups."""
    found: dict[str, Any] = {}
    for group in opt.param_groups:
        for name in _OF_THE_SWARM:
            value = float(group[name]) if name in ("lr", "weight_decay") else group[name]
            if found.get(name, value) != value:
                raise ValueError(f"{name} of opt must be one for all groups in a swarm, got {found[name]} and {value}")
            found[name] = value
    return found


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[Callable[[], bool]]:
    """Tell the block whether Ctrl-C was pressed instead of interrupting it, and interrupt at its end.

    A second one interrupts at once. Where Ctrl-C means something else already, or in a thread, it is left alone.
    """
    pressed = threading.Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed.is_set():
        raise KeyboardInterrupt
