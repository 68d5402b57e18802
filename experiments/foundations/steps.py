"""Proximal steps and stationarity tests: the ℓ1 digits table, and rates that fall by themselves.

Objectives are compared by their logarithms: a difference of 0.005 is half a percent. Settings are the sheet's, found on
other splits with another program; nothing is tuned here but the grid of step schedules, on validation data.
"""

from __future__ import annotations

import math

from aleator.experiment import Headline
from experiments.claims import BestOf, Claim, Experiment

SPARSE = "experiments/recipes/sparse_digits.py:SparseDigits"
SCHEDULED = "experiments/recipes/scheduled_digits.py:ScheduledDigits"
ZEROS, FEW_ZEROS, ACCURACY = Headline("zeros", "max"), Headline("zeros", "min"), Headline("accuracy", "max")
OBJECTIVE = Headline("log_objective", "min")
HALF_A_PERCENT, TWO_PERCENT = math.log(1.005), math.log(1.02)

GRID = {
    f"steps-{lr:g}-{'early' if first < 0.5 else 'late'}": (lr, first, second)
    for lr in (0.05, 0.1, 0.2)
    for first, second in ((0.3, 0.6), (0.5, 0.75))
}


EXPERIMENTS = (
    Experiment(
        "sparse-digits",
        "scikit-learn's digits, 1 200 for training, 597 for the test; softmax regression, λ = 0.001 on weights",
        (
            *(SPARSE, "--seeds", "3"),
            *("--variant", "prox-svrg:method=prox-svrg,passes=100"),
            *("--variant", "rda:method=rda,passes=1000"),
            *("--variant", "proximal-sgd:method=proximal-sgd,passes=200"),
            *("--variant", "subgradient:method=subgradient,passes=200"),
            *("--variant", "saga:method=saga"),
            *("--variant", "constant:method=constant"),
        ),
        (
            Claim(
                "Prox-SVRG's objective after 100 passes is at most 0.5 % above that of scikit-learn's SAGA (tol 1e-6)",
                "prox-svrg", "saga", "no less than", HALF_A_PERCENT, OBJECTIVE,
            ),
            Claim("Prox-SVRG has at least 65 % exact zeros", "prox-svrg", 0.65, "at least", 0.0, ZEROS),
            Claim(
                "RDA's objective after 1 000 passes is at most 0.5 % above that of scikit-learn's SAGA (tol 1e-6)",
                "rda", "saga", "no less than", HALF_A_PERCENT, OBJECTIVE,
            ),
            Claim("RDA has at least 65 % exact zeros", "rda", 0.65, "at least", 0.0, ZEROS),
            Claim("SGD with the subgradient has at most 10 % zeros", "subgradient", 0.1, "at least", 0.0, FEW_ZEROS),
            Claim(
                "The subgradient's objective after 200 passes is at most 2 % above that of SAGA",
                "subgradient", "saga", "no less than", TWO_PERCENT, OBJECTIVE,
            ),
            Claim(
                "Proximal SGD has at least 20 points more zeros than the subgradient",
                "proximal-sgd", "subgradient", "at least", 0.2, ZEROS,
            ),
            Claim(
                "Prox-SVRG's test accuracy equals SAGA's within a point",
                "prox-svrg", "saga", "equal within", 0.01, ACCURACY,
            ),
            Claim(
                "Prox-SVRG's test accuracy is at least 80 points above that of zero weights, all of which are zero",
                "prox-svrg", "constant", "at least", 0.8, ACCURACY,
            ),
        ),
    ),
    Experiment(
        "scheduled-digits",
        "scikit-learn's digits, 1 000/300/497; MLP 64-64-10, SGD with momentum 0.9, 3 000 steps of 20 examples",
        (
            *(SCHEDULED, "--seeds", "8"),
            *("--variant", "sasa:schedule=sasa"),
            *("--variant", "distance:schedule=distance"),
            *("--variant", "pflug:schedule=pflug"),
            *("--variant", "constant:schedule=constant"),
            *(
                word
                for name, (lr, first, second) in GRID.items()
                for word in ("--variant", f"{name}:schedule=steps,lr={lr:g},milestones=[{first},{second}]")
            ),
        ),
        tuple(
            Claim(
                f"{words} reaches an accuracy within half a point of a tuned step schedule",
                name, BestOf("two steps, best of grid", tuple(GRID)), "no less than", 0.005, ACCURACY,
            )
            for name, words in (("sasa", "SASA"), ("distance", "The distance test"), ("pflug", "Pflug's test"))
        ),
    ),
)  # fmt: skip
