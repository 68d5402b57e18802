"""A board in Redis: two streams for a swarm, so that any server with Redis's streams will do (Redis ≥ 5, Valkey).

    aleator:NAME:commits    entry k-1 is the agreed set of round k: XADD refuses an id that is not above the last one,
                            so the first writer wins; k-2, … follow only where k-1 is no valid set (0-0 is no id)
    aleator:NAME:offers     contributions, cut to the newest few thousand
    aleator:NAME:manifest, :machines, :announced, :snapshot    plain keys

A script of three commands makes the check of what precedes and the XADD one step: if the server lost the last rounds in
a power cut, nobody can write a later one before a machine has appended the lost ones again from its own log.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

from aleator.distributed.addresses import PASSWORD, Address
from aleator.distributed.messages import MAX_MACHINE
from aleator.distributed.transport import Unreachable

_APPEND = """
local round, place = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local number, sequence = -1, 0
if #last > 0 then
  number, sequence = string.match(last[1][1], '(%d+)-(%d+)')
  number, sequence = tonumber(number), tonumber(sequence)
end
if (place == 0 and number == round - 1) or (place > 0 and number == round and sequence == place) then
  redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. (place + 1), 'set', ARGV[3])
  return 1
end
return 0
"""
_OFFERS_KEPT = 4096
_NUMBER = re.compile(rb"-1|0|[1-9][0-9]{0,9}")
_FAR_AHEAD = 1_000_000  # machines; more than ever joined a swarm between two writes of the server's to its disk
_LARGEST = 512 << 20  # bytes of a value, Redis's limit


class RedisTransport:
    """A board in Redis Streams.

    Args:
        address: of the server; the password is in the environment.
        seconds: how long to wait for an answer before the server counts as unreachable: so long at most is a request
            to stop unheard.

    Raises:
        ValueError: if the server cannot be reached, refuses the password, or is no Redis with streams.
        ImportError: if the package ``redis`` is missing.
    """

    def __init__(self, address: Address, seconds: float = 0.7) -> None:
        try:
            import redis
        except ImportError:
            raise ImportError("redis is missing: pip install 'aleator[decentral]'") from None
        self._redis, self._address = redis, address
        # A silent retry would hide that the server was away, and with it that it may have lost something.
        common: dict[str, Any] = {
            "username": address.user or None,
            "password": os.environ.get(PASSWORD) or None,
            "db": address.database,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            "protocol": 2,
        }
        if address.scheme == "unix":
            common["unix_socket_path"] = address.host
        else:
            common |= {"host": address.host, "port": address.port, "socket_keepalive": True}
        if address.scheme == "rediss":
            common |= {
                "ssl": True,
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,
                "ssl_ca_certs": address.ca or None,
                "ssl_certfile": address.cert or None,
                "ssl_keyfile": address.key or None,
            }
        self._client: Any = redis.Redis(**common)
        self._append = self._client.register_script(_APPEND)
        self._offers_seen = "0-0"
        try:
            with self._told():
                self._client.ping()
        except Unreachable as error:
            raise ValueError(str(error)) from None

    def describe(self) -> str:
        """Return where the board is, without the password."""
        return str(self._address)

    def publish(self, manifest: bytes) -> bytes:
        """Write the manifest if there is none, and return the one that is there."""
        with self._told():
            self._client.set(self._key("manifest"), manifest, nx=True)
            found: bytes = self._client.get(self._key("manifest")) or b""
            return found

    def manifest(self) -> bytes | None:
        """Return the manifest, or None where no swarm of this name is."""
        with self._told():
            found: bytes | None = self._client.get(self._key("manifest"))
            return found

    def enrol(self) -> int:
        """Return a number that no machine has yet."""
        with self._told():
            number = int(self._client.incr(self._key("machines"))) - 1
            # A server that lost its last writes may count from too low. Numbers far ahead are nobody's.
            taken = [machine for machine in self.announced() if machine < number + _FAR_AHEAD]
            if (last := max(taken, default=-1)) >= number:
                number = int(self._client.incrby(self._key("machines"), last + 1 - number)) - 1
            return number

    def reserve(self, machine: int) -> None:
        """Let nobody else get a number that a machine has from before."""
        with self._told():
            if (count := int(self._client.get(self._key("machines")) or 0)) <= machine:
                self._client.incrby(self._key("machines"), machine + 1 - count)

    def announce(self, machine: int, round: int) -> None:
        """Say that a machine is there from a round on; from -1, that it has left."""
        with self._told():
            self._client.hset(self._key("announced"), str(machine), str(round))

    def announced(self) -> dict[int, int]:
        """Return what every machine announced last."""
        with self._told():
            found = self._client.hgetall(self._key("announced"))
            told = {int(machine): int(round) for machine, round in found.items() if _is_number(machine, round)}
            return {machine: round for machine, round in told.items() if 0 <= machine <= MAX_MACHINE}

    def offer(self, round: int, machine: int, contribution: bytes) -> None:
        """Hand in a contribution."""
        with self._told():
            self._client.xadd(self._key("offers"), {"c": contribution}, maxlen=_OFFERS_KEPT, approximate=True)

    def poll(self, round: int, seconds: float) -> tuple[list[bytes], list[bytes]]:
        """Wait for something new, not longer than this; see `Transport.poll`."""
        since = {
            self._key("offers"): self._offers_seen,
            self._key("commits"): f"{round}-0",
        }
        with self._told():
            answer = self._client.xread(since, count=_OFFERS_KEPT, block=max(1, int(seconds * 1000)))
        found = {name: entries for name, entries in answer or ()}
        offers = found.get(self._key("offers").encode(), [])
        if offers:
            self._offers_seen = offers[-1][0].decode()
        sets = [
            fields.get(b"set", b"")
            for name, fields in found.get(self._key("commits").encode(), [])
            if _round_of(name) == round
        ]
        return [fields.get(b"c", b"") for _, fields in offers], sets

    def last(self) -> int:
        """Return the last round that an agreed set was written for, or -1."""
        with self._told():
            newest = self._client.xrevrange(self._key("commits"), count=1)
            return _round_of(newest[0][0]) if newest else -1

    def append(self, round: int, place: int, commit: bytes) -> bool:
        """Write an agreed set, if the board is just there; see `Transport.append`."""
        with self._told():
            return bool(self._append(keys=[self._key("commits")], args=[round, place, commit]))

    def commits(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Return what was written as agreed sets from a round on, in order."""
        with self._told():
            entries = self._client.xrange(self._key("commits"), min=f"{first}-0", count=limit)
            return [(_round_of(name), fields.get(b"set", b"")) for name, fields in entries]

    def save_snapshot(self, round: int, weights: bytes) -> None:
        """Keep the weights before a round for those who join.

        Raises:
            ValueError: if they are more than a value of Redis may be; such swarms are joined by replay.
        """
        if len(weights) + 8 > _LARGEST:
            raise ValueError(f"a snapshot must be below {_LARGEST >> 20} MiB in Redis, got {len(weights)} bytes")
        with self._told():
            self._client.set(self._key("snapshot"), round.to_bytes(8, "little") + weights)

    def snapshot(self) -> tuple[int, bytes] | None:
        """Return what `save_snapshot` kept last."""
        with self._told():
            found: bytes | None = self._client.get(self._key("snapshot"))
        return None if found is None else (int.from_bytes(found[:8], "little"), found[8:])

    def close(self) -> None:
        """Leave the board."""
        with contextlib.suppress(self._redis.RedisError):
            self._client.close()

    def _key(self, name: str) -> str:
        return f"aleator:{self._address.swarm}:{name}"

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the client's errors into one line, without the password, and into those that may pass and those not."""
        errors, where = self._redis.exceptions, self._address
        try:
            yield
        except errors.AuthenticationError:
            raise ValueError(f"{where} refuses the user or the password; the password comes from {PASSWORD}") from None
        except errors.NoPermissionError as error:
            raise ValueError(f"{where} does not permit what a swarm needs: {error}") from None
        except (errors.BusyLoadingError, errors.ReadOnlyError, errors.OutOfMemoryError) as error:
            raise Unreachable(f"{where} cannot be written now: {error}") from None
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            self._client.connection_pool.disconnect()
            raise Unreachable(f"{where} cannot be reached: {_reason(error)}") from None
        except errors.ResponseError as error:
            if str(error).startswith(("MISCONF", "LOADING", "MASTERDOWN", "CLUSTERDOWN")):
                raise Unreachable(f"{where} cannot be written now: {error}") from None
            if str(error).startswith(("NOAUTH", "WRONGPASS")):
                raise ValueError(f"{where} wants a password; it comes from {PASSWORD}") from None
            raise ValueError(f"{where} does not work as a board for a swarm: {error}") from None


def _round_of(name: bytes) -> int:
    return int(name.partition(b"-")[0])


def _is_number(*words: bytes) -> bool:
    return all(_NUMBER.fullmatch(word) for word in words)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
