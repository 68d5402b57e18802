"""Experts don't cheat (Johnson et al., arXiv 2402.08733): does predicting pairs say how wrong a probability is?

All methods see the same inputs with the same two responses to each. On the half-line the ensemble's second-order error
was 0.08 in the project's notes and the pair's a quarter of that at most, so the threshold of the difference is 0.06.
"Distinct" is a network that saw twice as many inputs with one response each, as many labels. Rates of false answers are
exact sums over all n, except for the text, where answers are drawn; the bound is compared where it is at least as large
as what a trained model's own error may be, β ≥ 0.1. The images are 10,000 in all, so that networks are small and
trained from scratch: the size of an effect was not known in advance.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment


def _less(name: str) -> Headline:
    return Headline(name, "min")


def _more(name: str) -> Headline:
    return Headline(name, "max")


def _variants(*cells: str) -> tuple[str, ...]:
    return tuple(word for cell in cells for word in ("--variant", cell))


def _within_intervals(variant: str, beta: float) -> Claim:
    return Claim(
        f"Intervals of the {variant} for β = {beta:g} miss the truth for at most {100 * beta:g} % of the inputs",
        variant, beta, "no less than", 0.0, _less(f"violated_{beta:g}"),
    )  # fmt: skip


def _abstaining(variant: str, rules: tuple[str, ...]) -> tuple[Claim, ...]:
    return (
        Claim(
            f"With the {variant} false answers are no more than the bound says, for every β of at least 0.1",
            variant, 0.0, "no less than", 0.0, _less("excess"),
        ),
        *(
            Claim(
                f"The confidence of the {variant} tells false answers from true ones better than {rule} does (AUROC)",
                variant, 0.0, "at least", 0.0, _more(f"auroc_ahead_of_{rule}"),
            )
            for rule in rules
        ),
        *(
            Claim(
                f"Where as many answers are given, confidence of the {variant} lets fewer false ones pass than {rule}",
                variant, 0.0, "at least", 0.0, _more(f"matched_ahead_of_{rule}"),
            )
            for rule in rules
        ),
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        "half-line",
        "half-line, 4 000 items with two labels each, 1 500 steps of 256; 4 000 test items with known truth",
        (
            *("pairs", "--data", "half-line", "--seeds", "3"),
            *_variants(
                "table", "mixture:head=mixture,components=4", "ensemble:method=ensemble", "dropout:method=dropout",
                "laplace:method=laplace", "single:method=single", "distinct:method=single,responses=1,train_size=8000",
            ),
        ),
        (
            *(
                Claim(
                    f"The second-order calibration error of the {variant} is at most a quarter of that of an ensemble "
                    "of 8: lower by 0.06",
                    variant, "ensemble", "at least", 0.06,
                )
                for variant in ("table", "mixture")
            ),
            *(
                Claim(
                    f"The {variant} is better calibrated in the second order than {other}, by 0.06",
                    variant, name, "at least", 0.06,
                )
                for variant in ("table", "mixture")
                for name, other in (("dropout", "MC dropout"), ("laplace", "a last-layer Laplace approximation"))
            ),
            *(
                Claim(
                    f"Where nothing can be learned the {variant} claims its squared error as variance, within 10 %",
                    variant, 1.0, "equal within", 0.1, _more("variance_right_ratio"),
                )
                for variant in ("table", "mixture")
            ),
            Claim(
                "There an ensemble claims less than a tenth of its squared error",
                "ensemble", 0.1, "no less than", 0.0, _less("variance_right_ratio"),
            ),
            *(_within_intervals(variant, beta) for variant in ("table", "mixture") for beta in (0.5, 0.2, 0.05)),
            Claim(
                "In the first order the table is at most 0.01 worse calibrated than the ensemble",
                "table", "ensemble", "no less than", 0.01, _less("ece1"),
            ),
            Claim(
                "It is at most one point less accurate than a network with as many labels of twice as many items",
                "table", "distinct", "no less than", 0.01, _more("accuracy"),
            ),
        ),
    ),
    Experiment(
        "digits-of-pi",
        "statements about 1 000 digits of pi as 54 classes, 4 000 steps of 256; exact sums over all n and statements",
        (
            *("pairs", "--data", "digits-of-pi", "--seeds", "3"),
            *_variants("autoregressive:head=autoregressive", "mixture:head=mixture"),
        ),
        (
            *_abstaining("autoregressive", ("likelihood", "entropy")),
            *_abstaining("mixture", ("likelihood", "entropy")),
        ),
    ),
    Experiment(
        "cifar10h",
        "CIFAR-10H, 6 000 training, 2 000 validation and calibration, 2 000 test images; a small convolutional net, "
        "400 steps of 128",
        (
            *("pairs", "--data", "cifar10h", "--seeds", "3"),
            *_variants(
                "table", "mixture:head=mixture", "ensemble:method=ensemble,members=5", "dropout:method=dropout",
                "laplace:method=laplace",
            ),
        ),
        (
            *(
                Claim(
                    f"The {variant} is better calibrated in the second order than {other}",
                    variant, name, "at least", 0.0,
                )
                for variant in ("table", "mixture")
                for name, other in (
                    ("ensemble", "an ensemble of 5"), ("dropout", "MC dropout"), ("laplace", "a last-layer Laplace"),
                )
            ),
            Claim(
                "The table is at most one point less accurate than MC dropout, which is one network as well",
                "table", "dropout", "no less than", 0.01, _more("accuracy"),
            ),
            Claim(
                "Of the table's answers nobody's are no more than its bound says, for every β of at least 0.1",
                "table", 0.0, "no less than", 0.0, _less("excess"),
            ),
            Claim(
                "With noisy images the table is better calibrated in the second order than the ensemble",
                "table", "ensemble", "at least", 0.0, _less("shifted_ece2"),
            ),
        ),
    ),
    Experiment(
        "pi-text",
        "statements about 1 000 digits of pi as text, a transformer of 2 layers of width 64, 2 000 steps of 64; 15 000 "
        "answers drawn",
        ("pairs", "--data", "pi-text", "--seeds", "3", *_variants("text")),
        _abstaining("text", ("likelihood", "entropy", "agreement")),
    ),
    Experiment(
        "pi-text-long",
        "the same for 40 000 steps of 256",
        (
            *("pairs", "--data", "pi-text", "--steps", "40000", "--batch-size", "256", "--lr", "0.001", "--seeds", "3"),
            *_variants("text"),
        ),
        _abstaining("text", ("likelihood", "entropy", "agreement")),
        scale="gpu",
    ),
)  # fmt: skip
