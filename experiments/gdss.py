"""GDSS (Jo et al., arXiv 2202.02514): do features and edges that are generated together fit each other?

Discrepancies (MMD², kernels of the ``emd`` convention, mean of degree, clustering and orbits) are between generated
graphs and the test graphs. Thresholds for the reduced networks are from the project's notes on the paper, from a pilot
with the authors' code, one seed and 20 graphs; here there are 200. Random graphs with the nodes and the number of edges
of training graphs, and networks that learned nothing, are rows. What generated features and edges have to do with each
other is the ``degree_coupling``: how often a node's feature says its degree, less how often after shuffling the
features among the nodes of a graph. The share alone says nothing, since two independent draws from the training degrees
agree with probability Σp² = 0.191. The notes have, of one seed and 100 graphs, a coupling of 0.039 with scores that see
the whole graph and of −0.029 with scores that do not see each other. The toy has two modes on the diagonal of a square,
so independent scores put half of what they make off it by construction. S4 takes one evaluation of each network for a
step, Euler with Langevin corrections two.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

COUPLING = Headline("degree_coupling", "max")
LITTLE_COUPLING = Headline("degree_coupling", "min")
OFF_DIAGONAL = Headline("off_diagonal", "min")


def _variants(*cells: str) -> tuple[str, ...]:
    return tuple(word for cell in cells for word in ("--variant", cell))


def _published(data: str, average: float) -> Experiment:
    return Experiment(
        f"{data}-published",
        f"{data}, the authors' networks, sampler and 5 000 epochs; 1 024 graphs",
        (
            *("graphs", "--data", data, "--settings", "published", "--schedule", "exponential", "--samples", "1024"),
            *("--seeds", "5", *_variants("gdss")),
        ),
        (
            Claim(
                f"The mean discrepancy is at most {average:g}, as in the paper",
                "gdss", average, "no less than", 0.0,
            ),
        ),
        scale="gpu",
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "toy",
        "two modes at ±(½, ½), 2 500 steps of 512, 50 Euler steps, 10 000 samples",
        (
            *("experiments/recipes/two_modes.py:TwoModes", "--seeds", "3"),
            *_variants(
                "joint:scores=joint", "joint-s4:scores=joint,solver=s4", "independent:scores=independent",
                "sequential:scores=sequential",
            ),
        ),
        (
            Claim(
                "Of joint scores at most 3 % of the samples lie off the diagonal",
                "joint", 0.03, "no less than", 0.0, OFF_DIAGONAL,
            ),
            Claim(
                "So it is with S4",
                "joint-s4", 0.03, "no less than", 0.0, OFF_DIAGONAL,
            ),
            Claim(
                "Of independent scores half of the samples do, within 2 points",
                "independent", 0.5, "equal within", 0.02, OFF_DIAGONAL,
            ),
            Claim(
                "Joint scores put fewer samples off the diagonal than scores in sequence",
                "joint", "sequential", "at least", 0.0, OFF_DIAGONAL,
            ),
        ),
    ),
    Experiment(
        "community-small",
        "community-small, 80 training and 20 test graphs; reduced networks, 600 steps; 200 graphs by 500 steps",
        (
            *("graphs", "--data", "community-small", "--seeds", "3", "--evaluate-every", "1500"),
            *_variants(
                "s4", "s4-1500:steps=1500", "euler-langevin:solver=euler-langevin",
                "euler-langevin-250:solver=euler-langevin,sampling_steps=250", "independent:coupling=independent",
                "untrained:model=untrained", "random:model=random",
            ),
        ),
        (
            Claim("After 600 steps the mean discrepancy is at most 0.33", "s4", 0.33, "no less than", 0.0),
            Claim(
                "Graphs of GDSS are nearer to real ones than random graphs with the same nodes and edges, by 0.1",
                "s4", "random", "at least", 0.1,
            ),
            Claim(
                "They are nearer than graphs of networks that learned nothing, by 0.1",
                "s4", "untrained", "at least", 0.1,
            ),
            Claim(
                "They are nearer than those of scores that do not see each other",
                "s4", "independent", "at least", 0.0,
            ),
            Claim(
                "Features say the degree of their own node more often than after shuffling them within their graph",
                "s4", 0.0, "at least", 0.0, COUPLING,
            ),
            Claim(
                "Those of scores that do not see each other at most 2 points more often",
                "independent", 0.02, "no less than", 0.0, LITTLE_COUPLING,
            ),
            Claim(
                "Features and edges of GDSS are coupled more than those of scores that do not see each other",
                "s4", "independent", "at least", 0.0, COUPLING,
            ),
            Claim("After 1 500 steps the discrepancy is smaller than after 600", "s4-1500", "s4", "at least", 0.0),
            Claim(
                "After 1 500 steps features and edges are coupled more than after 600",
                "s4-1500", "s4", "at least", 0.0, COUPLING,
            ),
            Claim(
                "S4 is as good as Euler with corrections after as many steps, which take twice the evaluations, within "
                "0.1",
                "s4", "euler-langevin", "equal within", 0.1,
            ),
            Claim(
                "S4 is at most 0.05 worse than Euler with corrections after as many evaluations",
                "s4", "euler-langevin-250", "no less than", 0.05,
            ),
        ),
    ),
    _published("community-small", 0.046),
    _published("ego-small", 0.017),
    Experiment(
        "qm9-published",
        "QM9, 107 460 training molecules, the authors' networks, sampler and 300 epochs; 10 000 molecules",
        (
            *("graphs", "--data", "qm9", "--settings", "published", "--schedule", "exponential", "--samples", "10000"),
            *("--validation-samples", "1000", "--seeds", "3", *_variants("gdss", "s4:solver=s4,sampling_steps=1000")),
        ),
        (
            Claim(
                "At least 95 % of the molecules obey the valences before any correction",
                "gdss", 0.95, "no less than", 0.0,
            ),
            Claim(
                "With S4, which takes half the evaluations, as many do within one point",
                "s4", "gdss", "equal within", 0.01,
            ),
        ),
        scale="gpu",
    ),
)  # fmt: skip
