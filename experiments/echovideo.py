"""EchoVideo (Wei et al., arXiv 2501.13452): does a photograph that is there at random keep a model from copying it?

Digits that move stand for people. The photograph has the brightness of its clip and a bright block where its clip has
one, as in paired training; in the conflict half of the test it has another brightness, and a block where none is asked
for. ``leak`` is the share of the block that reappears, ``identity`` the cosine of a classifier's features, where
photograph and text agree. Thresholds are from the issue and the project's notes on the paper, whose two prototypes had
leaks of 0.65 to 0.67 with the photograph always on, 0.13 to 0.32 with it at random, and 0.04 to 0.08 without.

"At most 1/1.5 of the leak on every seed" is a claim about ``log_leak``, the logarithm of the leak, where less than 0.01
counts as that: the factor is at least 1.5 as far as seeds can tell. A model that is told the text alone is the trivial
row. The paper's own tables are about faces and cannot be had here: data and weights are not public.
"""

from __future__ import annotations

import math

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

LEAK, LOG_LEAK, COPIED = Headline("leak", "min"), Headline("log_leak", "min"), Headline("leak", "max")
IDENTITY = Headline("identity", "max")
ARMS = (
    "text:arm=text",
    "high-level:arm=high-level",
    "always-on:arm=always-on",
    "two-stage:arm=two-stage,p=0.5",
    "p25:arm=two-stage,p=0.25",
    "p75:arm=two-stage,p=0.75",
)

EXPERIMENTS = (
    Experiment(
        "moving-digits",
        "digits that move, 700 steps of 64 clips of 2 frames of 12 x 12; 128 clips of held-out digits of each kind",
        (
            *("identity", "--seeds", "3", "--workers", "1", "--evaluate-every", "100000"),
            *(word for arm in ARMS for word in ("--variant", arm)),
        ),
        (
            Claim("Always there, the photograph is copied: at least half of its block leaks", "always-on", 0.5,
                  "at least", 0.0, COPIED),
            Claim("At random (p = 0.5) at most 1/1.5 of that leaks", "two-stage", "always-on", "at least",
                  math.log(1.5), LOG_LEAK),
            Claim("At random less leaks than always", "two-stage", "always-on", "at least", 0.0, LEAK),
            Claim("At random keeps more identity than identity and vision tokens alone", "two-stage", "high-level",
                  "at least", 0.0, IDENTITY),
            Claim("At random has a lower error in conflict than always", "two-stage", "always-on", "at least", 0.0),
            Claim("At random has a lower error in conflict than never", "two-stage", "high-level", "at least", 0.0),
            Claim("At random has a lower error in conflict than the text alone", "two-stage", "text", "at least", 0.0),
            Claim("Identity and vision tokens keep more identity than the text alone", "high-level", "text",
                  "at least", 0.0, IDENTITY),
            Claim("With p = 0.75 no less leaks than with 0.25", "p75", "p25", "no less than", 0.0, COPIED),
            Claim("With p = 0.75 no less identity is kept than with 0.25", "p75", "p25", "no less than", 0.0, IDENTITY),
        ),
    ),
)  # fmt: skip
