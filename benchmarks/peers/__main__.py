"""``python -m benchmarks.peers NAME …`` makes the environments of these peers, or of all."""

from __future__ import annotations

import sys

from benchmarks.peers import ALONE, install, python

for name in sys.argv[1:] or ALONE:
    if name not in ALONE:
        sys.exit(f"error: a peer must be one of {', '.join(ALONE)}, got {name!r}")
    install(name)
    print(python(name))
