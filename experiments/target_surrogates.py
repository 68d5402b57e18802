"""Target surrogates (Lavington et al., arXiv 2302.02607): training loss against the number of target gradients.

The loss on the training examples is what is minimised and what is compared, and seeds differ by which four fifths of
the examples those are. Gradient descent, Adam and the line search (SLS) are tuned on that same loss, for each number of
calls anew, which is in their favour; surrogates have the step 1/L of the theory and are tuned in nothing. The features'
scale is what decides: an exact step on a surrogate does not see it. Where features are standardised the baselines are
expected to win, and so is Adam on many calls for digits; both are claims here.

Thresholds are well below the differences of our sheet, which were measured with another program.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import BestOf, Claim, Experiment

CALLS = (5, 10, 20, 50, 100)
CANCER = "breast-cancer, 455 of 569 examples, 30 {} features; logistic loss, full batch"
DIGITS = "scikit-learn's digits, 1 438 of 1 797 examples, 64 raw features; softmax, full batch"
GENERATED = "make_classification, 16 000 of 20 000 examples, 100 features of scales 1 to 100; logistic loss, full batch"
BATCHES = CANCER.format("standardised").replace("full batch", "batches of 25, γ = 10, 300 calls")
LINEAR = (
    "unstable linear system, 6 states, 2 actions, observed on scales 0.1 to 10; 30 rounds of 200 states, MLP 6-64-2"
)
PENDULUM = "Gymnasium Pendulum-v1, an expert of ours; 30 rounds of 1 000 states, MLP 3-64-1"

# Learning rates with the best one for every number of calls inside.
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "raw": {"gd": (1e-6, 3e-6, 1e-5, 3e-5), "adam": (0.001, 0.003, 0.01, 0.03)},
    "max-scaled": {"gd": (0.3, 1, 3, 10, 30), "adam": (0.1, 0.3, 1, 3, 10)},
    "standardised": {"gd": (0.3, 1, 3, 10, 30), "adam": (0.03, 0.1, 0.3, 1)},
    "digits": {"gd": (0.003, 0.01, 0.03), "adam": (0.003, 0.01, 0.03, 0.1)},
    "generated": {"gd": (1e-6, 1e-5, 3e-5), "adam": (1e-4, 3e-4, 0.001, 0.003, 0.01)},
}
SEARCHES = (0.1, 0.5)


def _after(calls: int) -> Headline:
    return Headline("train_loss" if calls == CALLS[-1] else f"train_loss_after_{calls}", "min")


def _grid(rates: str) -> dict[str, str]:
    """Return the baselines' options by the names of their variants."""
    cells = {f"{method}-{lr:g}": f"method={method},lr={lr:g}" for method, found in RATES[rates].items() for lr in found}
    return cells | {f"sls-{c}": f"method=sls,armijo_c={c}" for c in SEARCHES}


def _compare(rates: str, *options: str, seeds: int = 5, **surrogates: str) -> tuple[str, ...]:
    variants = {name.replace("_", "-"): words for name, words in surrogates.items()} | _grid(rates)
    words = [word for name, given in variants.items() for word in ("--variant", f"{name}:{given}")]
    reported = map(str, CALLS[:-1])
    return ("surrogate", *options, "--calls", "100", "--loss-after", *reported, "--seeds", str(seeds), *words)


def _tuned(rates: str, calls: int, methods: tuple[str, ...] = ("gd", "adam", "sls")) -> BestOf:
    names = {"gd": "GD", "adam": "Adam", "sls": "SLS"}
    cells = tuple(cell for cell in _grid(rates) if cell.split("-")[0] in methods)
    return BestOf(f"best of {', '.join(names[m] for m in methods)}, tuned for {calls} calls", cells, _after(calls))


def _better(rates: str, calls: int, threshold: float, a: str = "exact", what: str = "exact") -> Claim:
    """Claim that a surrogate's loss after ``calls`` calls is lower than any tuned baseline's."""
    return Claim(
        f"After {calls} calls SSO ({what}) has a lower training loss than tuned GD, Adam and SLS"
        + (f", by at least {threshold:g}" if threshold else ""),
        a, _tuned(rates, calls), "at least", threshold, _after(calls),
    )  # fmt: skip


def _worse(rates: str, calls: int) -> Claim:
    """Claim that surrogates are not the best after ``calls`` calls."""
    return Claim(
        f"After {calls} calls the best of tuned GD, Adam and SLS has a lower training loss than SSO (exact)",
        _tuned(rates, calls), "exact", "at least", 0.0, _after(calls),
    )  # fmt: skip


def _imitation(problem: str, rates: tuple[float, ...], lr: float, seeds: int, *inner_steps: int) -> tuple[str, ...]:
    cells = [f"adam-{rate:g}:method=adam,lr={rate:g}" for rate in rates]
    cells += [f"sso-{m}:inner=adam,lr={lr:g},inner_steps={m}" for m in inner_steps]
    words = [word for cell in cells for word in ("--variant", cell)]
    return ("surrogate", "--problem", problem, "--calls", "30", "--evaluate-every", "30", "--seeds", str(seeds), *words)


LINEAR_RATES, PENDULUM_RATES = (0.003, 0.01, 0.03, 0.1), (0.003, 0.01, 0.03, 0.1)


EXPERIMENTS = (
    Experiment(
        "raw",
        CANCER.format("raw"),
        _compare(
            "raw", "--evaluate-every", "100", exact="inner=exact", armijo="inner=armijo,inner_steps=10",
            exact_5="inner=exact,calls=5,loss_after=[5]",
            lbfgs_20="inner=lbfgs,inner_steps=50,calls=20,loss_after=[5,10,20]",
        ),
        (
            *(_better("raw", calls, 0.1) for calls in CALLS),
            Claim(
                "SSO (exact) after 5 calls has a lower training loss than tuned Adam after 100",
                "exact-5", _tuned("raw", 100, ("adam",)), "at least", 0.0, _after(100),
            ),
            _better("raw", 5, 0.1, "lbfgs-20", "50 iterations of L-BFGS"),
            Claim(
                "After 100 calls SSO with 10 inner steps of Armijo's gradient descent has a lower training loss than "
                "SLS, by at least 0.1",
                "armijo", _tuned("raw", 100, ("sls",)), "at least", 0.1, _after(100),
            ),
            Claim(
                "After 5 calls tuned Adam has a lower training loss than SSO with 10 inner steps of Armijo's gradient "
                "descent",
                _tuned("raw", 5, ("adam",)), "armijo", "at least", 0.0, _after(5),
            ),
        ),
    ),
    Experiment(
        "max-scaled",
        CANCER.format("max-scaled"),
        _compare("max-scaled", "--features", "max-scaled", "--evaluate-every", "100", exact="inner=exact"),
        (_better("max-scaled", 5, 0.1), _better("max-scaled", 20, 0.03), _better("max-scaled", 100, 0.0)),
    ),
    Experiment(
        "standardised",
        CANCER.format("standardised"),
        _compare("standardised", "--features", "standardised", "--evaluate-every", "100", exact="inner=exact"),
        tuple(_worse("standardised", calls) for calls in CALLS),
    ),
    Experiment(
        "digits",
        DIGITS,
        _compare("digits", "--problem", "digits", "--evaluate-every", "100", exact="inner=exact"),
        (_better("digits", 5, 0.0), *(_worse("digits", calls) for calls in (20, 50, 100))),
    ),
    Experiment(
        "generated",
        GENERATED,
        _compare("generated", "--problem", "generated", "--evaluate-every", "100", seeds=3, exact="inner=exact"),
        (_better("generated", 5, 0.02), _better("generated", 20, 0.0)),
    ),
    Experiment(
        "small-batches",
        BATCHES,
        (
            *("surrogate", "--features", "standardised", "--batch-size", "25", "--step-size", "10", "--calls", "300"),
            *("--evaluate-every", "300", "--seeds", "5"),
            *("--variant", "one:inner_steps=1", "--variant", "many:inner_steps=50"),
        ),
        (
            Claim(
                "On small batches, 50 inner steps have a higher training loss in the end than one",
                "one", "many", "at least", 0.0,
            ),
        ),
    ),
    Experiment(
        "linear-imitation",
        LINEAR,
        _imitation("linear-imitation", LINEAR_RATES, 0.01, 5, 10, 50),
        tuple(
            Claim(
                f"SSO with {m} inner steps of Adam has a lower loss on fresh states, averaged over rounds, than tuned "
                "OGD with Adam",
                f"sso-{m}", BestOf("OGD with Adam, best of grid", tuple(f"adam-{r:g}" for r in LINEAR_RATES)),
                "at least", 0.0,
            )
            for m in (10, 50)
        ),
    ),
    Experiment(
        "pendulum",
        PENDULUM,
        _imitation("gymnasium:Pendulum-v1", PENDULUM_RATES, 0.003, 3, 10),
        (
            Claim(
                "SSO with 10 inner steps of Adam has a lower loss on fresh states, averaged over rounds, than tuned "
                "OGD with Adam",
                "sso-10", BestOf("OGD with Adam, best of grid", tuple(f"adam-{r:g}" for r in PENDULUM_RATES)),
                "at least", 0.0,
            ),
        ),
    ),
)  # fmt: skip
