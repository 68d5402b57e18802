"""Addresses of boards: ``redis://host:6379/0``, ``rediss://`` with TLS, ``unix:///path``, ``store://host:port``.

A password is never part of an address: it would end up in the history of a shell, in the list of processes, in records
and reports. It comes from the environment, ``ALEATOR_REDIS_PASSWORD``, and an address that holds one is refused.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

PASSWORD = "ALEATOR_REDIS_PASSWORD"
SECRET = "ALEATOR_SWARM_KEY"
"""The environment variable with the key that contributions are signed with."""

_SCHEMES = ("redis", "rediss", "unix", "store")
# Anything between "//" or a query's "password=" and what ends it; greedy, since a password may hold "@" or "/".
_USER_PART = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/:@]*):\S*@")
_QUERY_PART = re.compile(r"(?i)(?P<name>[?&](?:password|passwd|pass|token|auth)=)[^&\s]*")


def redacted(address: str) -> str:
    """Return an address without any password in it."""
    return _QUERY_PART.sub(r"\g<name>***", _USER_PART.sub(r"\g<scheme>\g<user>:***@", address))


@dataclass(frozen=True)
class Address:
    """Where a board is.

    Attributes:
        scheme: ``"redis"``, ``"rediss"``, ``"unix"`` or ``"store"``.
        host: or the path of a socket.
        port: of the host.
        user: of Redis's access control; empty for the default one.
        database: of Redis.
        swarm: the name of the swarm among several on one server.
        ca: a file of certificates that the server's is checked by, instead of the system's.
        cert: this machine's certificate, where the server asks for one.
        key: of that certificate.
    """

    scheme: str
    host: str
    port: int = 0
    user: str = ""
    database: int = 0
    swarm: str = "default"
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            ValueError: saying what is wrong with it, without repeating a password.
        """
        shown = redacted(text)
        if shown != text:
            raise ValueError(f"an address must hold no password, put it into {PASSWORD}, got {shown}")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{shown!r} is no address: {error}") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(
                f"an address must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}, got {shown!r}"
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        accepted = {"swarm"} | ({"ca", "cert", "key"} if parts.scheme == "rediss" else set())
        if unknown := options.keys() - accepted:
            raise ValueError(
                f"an address with {parts.scheme}:// may have {', '.join(sorted(accepted))} behind '?', "
                f"got {', '.join(sorted(unknown))}"
            )
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", options.get("swarm", "default")):
            raise ValueError(f"swarm must be 1 to 64 letters, digits, '_', '.', '-', got {options['swarm']!r}")
        return cls(
            parts.scheme,
            *_place(parts, port, shown),
            user=parts.username or "",
            database=_database(parts, shown),
            swarm=options.get("swarm", "default"),
            ca=options.get("ca", ""),
            cert=options.get("cert", ""),
            key=options.get("key", ""),
        )

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        database = f"/{self.database}" if self.database else ""
        swarm = f"?swarm={self.swarm}" if self.swarm != "default" else ""
        if self.scheme == "unix":
            return f"unix://{user}{self.host}{swarm}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}:{self.port}{database}{swarm}"


def secret_from_environment() -> bytes | None:
    """Return the key that contributions are signed with, or None where the environment has none.

    Raises:
        ValueError: if it is too short to be a secret.
    """
    found = os.environ.get(SECRET)
    if found is None:
        return None
    if len(found.encode()) < 16:
        raise ValueError(f"{SECRET} must hold at least 16 bytes, got {len(found.encode())}")
    return found.encode()


def _place(parts: SplitResult, port: int | None, shown: str) -> tuple[str, int]:
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(f"an address with unix:// must hold the path of a socket, got {shown!r}")
        return parts.path, 0
    if not parts.hostname:
        raise ValueError(f"an address must name a host, got {shown!r}")
    if parts.scheme == "store" and port is None:
        raise ValueError(f"an address with store:// must have a port, got {shown!r}")
    return parts.hostname, 6379 if port is None else port


def _database(parts: SplitResult, shown: str) -> int:
    if parts.scheme == "unix":
        return 0
    name = parts.path.strip("/")
    if name and (parts.scheme == "store" or not name.isdecimal()):
        raise ValueError(f"an address may have the number of a database behind its port, got {shown!r}")
    return int(name or 0)
