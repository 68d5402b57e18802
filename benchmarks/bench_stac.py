"""An update of STAC against one of SAC, ours and Stable-Baselines3's; and eight members side by side against one.

CPU time of one thread for a whole update: the batch is drawn from a replay of 5 000 transitions, critics, targets,
actor and temperature step. Spaces are those of HalfCheetah, widths 256 and batches of 256 unless said. Of members the
figure is the time of one update of all eight, batches of 128. The peer takes turns with us in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch

from aleator.rl import SAC, STAC, Agent, Members, Replay
from benchmarks.pairs import Pairs, interleave
from benchmarks.peers import Program, command, rows_of_a_peer

OBS, ACT, KEPT = 17, 6, 5_000
NUMBER, PAIRS, MEMBERS = 10, 21, 8
PEER = "stable_baselines3"
PLAIN: dict[str, Any] = {"actor_dropout": 0.0, "critic_dropout": 0.0}
DROPPED: dict[str, Any] = {"actor_dropout": 0.01, "critic_dropout": 0.01}


def benchmark() -> list[dict[str, Any]]:
    """Return the time of SAC / the time of STAC, of the peer / ours, and of one agent / eight members."""
    sac = _filled(SAC)
    stac = {"without dropout": _filled(STAC, **PLAIN), "1 % dropout": _filled(STAC, **DROPPED)}
    rows = [
        _turns(update, sac).row(f"an update of STAC, {which}", "our SAC", target, unit="s")
        for (which, update), target in zip(
            stac.items(), ("≥ 1.43, .7 of its time", "≥ 1.25, .8 of its time"), strict=True
        )
    ]
    for name, update, target in (("SAC", sac, "≥ 1.3"), ("STAC, without dropout", stac["without dropout"], "≥ 1.5")):
        with rows_of_a_peer():
            rows.append(_against_peer(name, update, target))
    for width in (64, 128):
        one = _filled(STAC, width=width, batch=128, **PLAIN)
        members = _members(width)
        what = f"an update of {MEMBERS} members, width {width}, batch 128"
        rows.append(_turns(members, one).row(what, "one agent", "≥ .33, 3 times"))
    return rows


def _turns(ours: Callable[[], object], peer: Callable[[], object]) -> Pairs:
    return interleave(ours, peer, pairs=PAIRS, number=NUMBER, clock=time.process_time)


def _agent(kind: type[Agent], seed: int, width: int, batch: int, **settings: Any) -> Agent:
    spaces = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,)), gymnasium.spaces.Box(-1.0, 1.0, (ACT,))
    build: Any = kind
    made: Agent = build(*spaces, seed=seed, net_arch=(width, width), batch_size=batch, capacity=KEPT, **settings)
    return made


def _filled(kind: type[Agent], *, width: int = 256, batch: int = 256, **settings: Any) -> Callable[[], object]:
    agent = _agent(kind, 0, width, batch, **settings)
    _fill(agent.replay)
    return agent.update_from_replay


def _members(width: int) -> Callable[[], object]:
    members = Members([_agent(STAC, seed, width, 128, **PLAIN) for seed in range(MEMBERS)])
    _fill(members.replay)
    return members.update_from_replay


def _fill(replay: Replay) -> None:
    draw, rows = torch.Generator().manual_seed(0), (replay.members, KEPT)
    replay.add(
        torch.randn(*rows, OBS, generator=draw),
        torch.rand(*rows, ACT, generator=draw) * 2 - 1,
        torch.randn(*rows, generator=draw),
        torch.randn(*rows, OBS, generator=draw),
        torch.rand(*rows, generator=draw) < 0.01,
    )


def _against_peer(name: str, update: Callable[[], object], target: str) -> dict[str, Any]:
    ours, theirs = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with Program(PEER, command(PEER, OBS, ACT, 256, 256, NUMBER)) as peer:
        for _ in range(PAIRS):
            begin = time.process_time()
            for _ in range(NUMBER):
                update()
            ours.append((time.process_time() - begin) / NUMBER)
            theirs.append(peer.seconds() / NUMBER)
    torch.set_num_threads(threads)
    return Pairs(ours, theirs).row(f"an update of our {name}", f"Stable-Baselines3 {peer.version}, SAC", target)
