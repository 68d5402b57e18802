"""Randomness shared between machines: weights that stay equal because everybody applies the same log of gradients."""

from typing import TYPE_CHECKING

from aleator.distributed.addresses import Address, redacted
from aleator.later import later

if TYPE_CHECKING:
    from aleator.distributed.log import DamagedLog, GradientLog
    from aleator.distributed.manifest import Manifest
    from aleator.distributed.member import Forked, Member, Traffic
    from aleator.distributed.messages import Commit, Contribution, Malformed
    from aleator.distributed.peer import Diverged, Peer, Step
    from aleator.distributed.redis_streams import RedisTransport
    from aleator.distributed.replica import Replica, fingerprint
    from aleator.distributed.swarm import Swarm
    from aleator.distributed.trainer import OneByteTrainer
    from aleator.distributed.transport import StoreTransport, Transport, Unreachable, in_process, tcp_store

__all__ = [
    "Address",
    "Commit",
    "Contribution",
    "DamagedLog",
    "Diverged",
    "Forked",
    "GradientLog",
    "Malformed",
    "Manifest",
    "Member",
    "OneByteTrainer",
    "Peer",
    "RedisTransport",
    "Replica",
    "Step",
    "StoreTransport",
    "Swarm",
    "Traffic",
    "Transport",
    "Unreachable",
    "fingerprint",
    "in_process",
    "redacted",
    "tcp_store",
]

__getattr__ = later(
    __name__,
    {
        "DamagedLog": "log",
        "GradientLog": "log",
        "Manifest": "manifest",
        "Forked": "member",
        "Member": "member",
        "Traffic": "member",
        "Commit": "messages",
        "Contribution": "messages",
        "Malformed": "messages",
        "Diverged": "peer",
        "Peer": "peer",
        "Step": "peer",
        "RedisTransport": "redis_streams",
        "Replica": "replica",
        "fingerprint": "replica",
        "Swarm": "swarm",
        "OneByteTrainer": "trainer",
        "StoreTransport": "transport",
        "Transport": "transport",
        "Unreachable": "transport",
        "in_process": "transport",
        "tcp_store": "transport",
    },
)
