"""Symmetric STDP (Hao et al., arXiv 1812.06574): how well spikes classify images without backpropagation.

Thresholds on digits are from the project's notes on the paper, from another implementation with three seeds. The
abstract has no figures; for MNIST after one epoch the thresholds are round numbers below what ports of the method
report, set before the first run. 96.73 % and 85.31 % with 6 400 cells are quoted for the paper and could not be
verified. A constant answer is right for a tenth of the images; networks of the same size that learn by backpropagation
are there to be better, and that is claimed.

The authors' thresholds decay with time constants that single precision does not resolve from 2·10⁷ ms on, the settings
of 6 400 cells and more: there they never decay. The experiment mnist-decay has both regimes with 1 600 cells: eight
epochs where thresholds decay, half an hour, and four in both. Thresholds that never decay grow with every spike, and
the time of a sample with them: in a run of eight epochs every sample was presented 13 times more in the fifth, and the
run was broken off. A trial in the project's notes (400 cells, decay sped up by 16, one seed) had about 60 hidden spikes
a sample fewer without decay and was 2.6 points better; the thresholds are set from it. The experiment mnist-6400-paper
is the authors' setting in both regimes. It has one seed, which can refute the figure that is quoted and not confirm it:
without an interval nothing counts as reproduced.
"""

from __future__ import annotations

from aleator.experiment import Headline
from experiments.claims import Claim, Experiment

AT_MOST = Headline("accuracy", "min")
HIDDEN_SPIKES = Headline("hidden_spikes", "min")
ABLATIONS = {
    "input_scaling": "the scaling of input weights",
    "adaptive_threshold": "the adaptive threshold",
    "lateral_inhibition": "lateral inhibition",
}
# Backpropagation is cheap: it may pass over the images until it has learned them.
REFERENCES = ("--variant", "mlp:model=mlp,epochs=30", "--variant", "surrogate-snn:model=surrogate-snn,epochs=30")


def _variants(*cells: str) -> tuple[str, ...]:
    return tuple(word for cell in cells for word in ("--variant", cell))


def _reaches(variant: str, cells: str, accuracy: float) -> Claim:
    text = f"{cells} hidden cells are right for at least {100 * accuracy:g} % of the test images after one epoch"
    return Claim(text, variant, accuracy, "no less than", 0.0)


def _quoted(data: str, accuracy: float) -> Claim:
    text = f"6 400 hidden cells reach the {100 * accuracy:g} % on {data} that are quoted for the paper"
    return Claim(text, "cells-6400", accuracy, "no less than", 0.0)


EXPERIMENTS = (
    Experiment(
        "digits",
        "digits enlarged to 24 × 24, 1 400 training and 360 test images, one epoch",
        (
            *("spiking", "--validation-size", "37", "--seeds", "3"),
            *_variants(
                "cells-100", "cells-400:hidden=400", "cells-100-by-assignment:readout=assignment",
                "cells-400-by-assignment:hidden=400,readout=assignment", "layerwise:schedule=layerwise",
                *(f"without-{name}:without={name}" for name in (*ABLATIONS, "class_scaling", "symmetry")),
                "private:engine=private", "frozen:engine=frozen",
            ),
            *REFERENCES,
        ),
        (
            _reaches("cells-100", "100", 0.88),
            _reaches("cells-400", "400", 0.92),
            Claim(
                "With 100 cells the class cells answer at most two points worse than the hidden cells by their labels",
                "cells-100", "cells-100-by-assignment", "no less than", 0.02,
            ),
            Claim(
                "With 400 cells the class cells answer better than the hidden cells by their labels",
                "cells-400", "cells-400-by-assignment", "at least", 0.0,
            ),
            Claim(
                "Learning layer by layer is as good as learning both together, within three points",
                "layerwise", "cells-100", "equal within", 0.03,
            ),
            *(
                Claim(
                    f"Without {words} at most 20 % of the answers are right",
                    f"without-{name}", 0.2, "no less than", 0.0, AT_MOST,
                )
                for name, words in ABLATIONS.items()
            ),
            Claim(
                "Without scaling the class weights nothing changes, within three points",
                "without-class_scaling", "cells-100", "equal within", 0.03,
            ),
            Claim(
                "Symmetric STDP is better than STDP in which an input spike after the cell's own depresses",
                "cells-100", "without-symmetry", "at least", 0.0,
            ),
            Claim(
                "Batches of 32 that learn on private copies cost at most three points",
                "private", "cells-100", "no less than", 0.03,
            ),
            Claim(
                "Batches of 32 that learn on frozen weights cost at least three points",
                "cells-100", "frozen", "at least", 0.03,
            ),
            *(
                Claim(
                    f"{words} of 100 hidden cells, 30 epochs of backpropagation, is better",
                    name, "cells-100", "at least", 0.0,
                )
                for name, words in (("mlp", "A rectifier network"), ("surrogate-snn", "A surrogate-gradient network"))
            ),
        ),
    ),
    Experiment(
        "mnist",
        "MNIST, 59 500 training, 500 validation and 10 000 test images, one epoch",
        (
            *("spiking", "--data", "mnist", "--validation-size", "500", "--seeds", "3"),
            *_variants("cells-100", "cells-400:hidden=400", "cells-1600:hidden=1600", "mlp:model=mlp,hidden=400"),
        ),
        (
            _reaches("cells-100", "100", 0.78),
            _reaches("cells-400", "400", 0.85),
            Claim("400 hidden cells are better than 100", "cells-400", "cells-100", "at least", 0.0),
            Claim("1 600 hidden cells are better than 400", "cells-1600", "cells-400", "at least", 0.0),
            Claim(
                "A rectifier network of 400 hidden cells, one epoch of backpropagation, is better",
                "mlp", "cells-400", "at least", 0.0,
            ),
        ),
    ),
    Experiment(
        "fashion-mnist",
        "Fashion-MNIST, 59 500 training, 500 validation and 10 000 test images, one epoch",
        (
            *("spiking", "--data", "fashion-mnist", "--validation-size", "500", "--hidden", "400", "--seeds", "3"),
            *_variants("cells-400", "mlp:model=mlp"),
        ),
        (
            _reaches("cells-400", "400", 0.7),
            Claim(
                "A rectifier network of 400 hidden cells, one epoch of backpropagation, is better",
                "mlp", "cells-400", "at least", 0.0,
            ),
        ),
    ),
    Experiment(
        "mnist-6400",
        "MNIST, 59 500 training, 500 validation and 10 000 test images, one epoch",
        (
            *("spiking", "--data", "mnist", "--validation-size", "500", "--hidden", "6400", "--seeds", "2"),
            *_variants("cells-6400"),
        ),
        (_quoted("MNIST", 0.9673),),
    ),
    Experiment(
        "mnist-decay",
        "MNIST, 59 500 training, 500 validation and 10 000 test images, 1 600 cells, eight epochs, four or one",
        (
            *("spiking", "--data", "mnist", "--validation-size", "500", "--hidden", "1600", "--epochs", "8"),
            *("--seeds", "2", "--workers", "2"),
            *_variants(
                *("exact", "exact-4:epochs=4", "none-4:theta_decay=none,epochs=4"),
                *("exact-1:epochs=1", "none-1:theta_decay=none,epochs=1"),
            ),
        ),
        (
            *(
                Claim(
                    f"With thresholds that {do} 1 600 cells are right for at least 93 % after {epochs} epochs",
                    a, 0.93, "no less than", 0.0,
                )
                for a, do, epochs in (("exact", "decay", "eight"), ("none-4", "never decay", "four"))
            ),
            Claim("After four epochs thresholds that never decay are better", "none-4", "exact-4", "at least", 0.0),
            Claim(
                "After four epochs a test image brings at least 20 hidden spikes fewer where thresholds never decay",
                "none-4", "exact-4", "at least", 20.0, HIDDEN_SPIKES,
            ),
            Claim("Eight epochs are better than one where thresholds decay", "exact", "exact-1", "at least", 0.0),
            Claim("Four epochs are better than one where thresholds never decay", "none-4", "none-1", "at least", 0.0),
        ),
    ),
    Experiment(
        "mnist-6400-paper",
        "MNIST, 59 500 training, 500 validation and 10 000 test images, 6 400 cells, twenty epochs, one seed",
        (
            *("spiking", "--data", "mnist", "--validation-size", "500", "--hidden", "6400", "--epochs", "20"),
            *("--seeds", "1", "--workers", "1", "--threads", "2"),
            *_variants("exact", "none:theta_decay=none"),
        ),
        (
            *(
                Claim(
                    f"After twenty epochs 6 400 hidden cells whose thresholds {do} reach the 96.73 % on MNIST that are "
                    "quoted for the paper",
                    a, 0.9673, "no less than", 0.0,
                )
                for a, do in (("exact", "decay"), ("none", "never decay"))
            ),
            Claim(
                "After twenty epochs of 6 400 cells thresholds that never decay are better",
                "none", "exact", "at least", 0.0,
            ),
        ),
    ),
    *(
        Experiment(
            f"{data}-gpu",
            f"{title}, 59 500 training, 500 validation and 10 000 test images, 5 epochs of private batches of 32",
            (
                *("spiking", "--data", data, "--validation-size", "500", "--engine", "private", "--epochs", "5"),
                *("--seeds", "3", *_variants("cells-1600:hidden=1600", "cells-6400:hidden=6400")),
            ),
            (
                _quoted(title, accuracy),
                Claim("6 400 hidden cells are better than 1 600", "cells-6400", "cells-1600", "at least", 0.0),
            ),
            scale="gpu",
        )
        for data, title, accuracy in (("mnist", "MNIST", 0.9673), ("fashion-mnist", "Fashion-MNIST", 0.8531))
    ),
)  # fmt: skip
