"""``python -m benchmarks.peers NAME …`` fetches these peers, or all."""

from __future__ import annotations

import sys

from benchmarks.peers import ALONE, PACKAGES, PeerMissing, install

known = sorted([*ALONE, *PACKAGES])
for name in sys.argv[1:] or known:
    if name not in known:
        sys.exit(f"error: a peer must be one of {', '.join(known)}, got {name!r}")
    try:
        install(name)
    except PeerMissing as missing:
        print(f"left out: {missing}", file=sys.stderr)
