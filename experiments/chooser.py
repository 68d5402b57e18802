"""The first table of the documentation: what somebody wants, the method, one command, and what it brought here.

The effect is read from the evidence. The claim of a row is the method's own headline on the largest data it was tried
on, whatever its verdict.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """What somebody wants, and the method that is for it.

    Attributes:
        want: in the words of somebody who does not know the method.
        method: of `aleator.commands.methods.METHODS`.
        command: to type.
        experiment: of the method's evidence.
        claim: of that experiment, word for word.
    """

    want: str
    method: str
    command: str
    experiment: str
    claim: str


WISHES = (
    Wish(
        "train in a tenth of the steps",
        "rs2",
        "aleator run classify --subset rs2 --ratio 0.1",
        "mnist-10",
        "RS2 at 10 % (1 500 steps) is within 0.8 points of 20 epochs on full data (5 000 steps)",
    ),
    Wish(
        "larger batches without tuning the rate again",
        "lamb",
        "aleator run classify --optimizer lamb --batch-size 512 --schedule linear --warmup 0.1",
        "batch-sweep",
        "LAMB at batch 512 is within 2.5 points of batch 32, by the square-root rule and without tuning",
    ),
    Wish(
        "larger learning rates for a language model",
        "spectra",
        "aleator run language --files mine=text.txt --optimizer spectra-adamw",
        "tinyshakespeare",
        "Best-of-grid SPECTRA-AdamW needs at least 0.10 nats (0.144 bits) a byte less than best-of-grid AdamW",
    ),
    Wish(
        "a learning rate without a search",
        "rmt-lr",
        "aleator run classify --lr-rule curvature",
        "learner-constant",
        "The learned rate with its memory is within 0.5 points of the best of six given ones, constant",
    ),
    Wish(
        "fewer updates, with batches that grow",
        "adadagrad",
        "aleator run classify --batch-test norm --max-batch-size 512",
        "mlp-adagrad",
        "Batches that grow are at most 3 points less accurate than a constant batch of 8",
    ),
    Wish(
        "small languages beside large ones",
        "cooldown",
        "aleator run language --files en=en.txt fi=fi.txt --mixture-schedule cooldown",
        "three-languages",
        "Cooldown 5 → 1 is better than τ = 1 on Finnish by at least 0.20 nats (0.289 bits) a byte",
    ),
    Wish(
        "bytes that cost every language alike",
        "magnet",
        "aleator run language --files en=en.txt ru=ru.txt --tokenization magnet",
        "tico19",
        "With one for each script (MAGNET) a language takes at most 1.4 times the segments of another",
    ),
    Wish(
        "a better first layer for images",
        "tract",
        "aleator run classify --data cifar10 --model cnn --first-layer tract",
        "cifar10-8000",
        "TrAct has the higher test accuracy in more than half of the cells (model, optimizer, seed)",
    ),
    Wish(
        "more from each call of an expensive loss",
        "target-surrogates",
        "aleator run classify --surrogate 5",
        "raw",
        "After 20 calls SSO (exact) has a lower training loss than tuned GD, Adam and SLS, by at least 0.1",
    ),
    Wish(
        "to compute a tenth of a layer",
        "stochastic-neurons",
        "aleator run gates --gate st",
        "mnist",
        "ST at 10 % activity is at most one point worse than the dense net of equal active width",
    ),
    Wish(
        "weights that are exactly zero, rates that fall by a test, bounds for a model",
        "intro-ml",
        "aleator run classify --optimizer proximal-sgd --prox l1 --prox-lam 0.001",
        "sparse-digits",
        "Prox-SVRG has at least 65 % exact zeros",
    ),
    Wish(
        "to know what more data would bring",
        "learning-curves",
        "aleator curve fit scores.csv",
        "ewt",
        "perceptron on EWT: the trend of the first 45 % of the words misses the final accuracy by less than the last "
        "value does",
    ),
    Wish(
        "to know what a model does not know",
        "pairs",
        "aleator run pairs",
        "half-line",
        "The second-order calibration error of the table is at most a quarter of that of an ensemble of 8: lower by "
        "0.06",
    ),
    Wish(
        "to learn without backpropagation",
        "sym-stdp",
        "aleator run spiking",
        "digits",
        "100 hidden cells are right for at least 88 % of the test images after one epoch",
    ),
    Wish(
        "to generate graphs or molecules",
        "gdss",
        "aleator run graphs --data community-small",
        "community-small",
        "Graphs of GDSS are nearer to real ones than random graphs with the same nodes and edges, by 0.1",
    ),
    Wish(
        "to solve an equation in many dimensions",
        "sdgd",
        "aleator run pde --dimensions 100 --sampled-dimensions 10",
        "d100",
        "With one set of 10 dimensions (Algorithm 3) the error is at least 4 times below the best constant's",
    ),
    Wish(
        "to see a scene from views that nobody took",
        "s3im",
        "aleator run field",
        "room",
        "S3IM raises the PSNR of held-out views",
    ),
    Wish(
        "a flow that makes what a reward asks for",
        "euphonium",
        "aleator run alignment",
        "digits",
        "It is there within 24 iterations, 0.6 of 40",
    ),
    Wish(
        "to generate a known person, and not to copy the photograph",
        "echovideo",
        "aleator run identity",
        "moving-digits",
        "At random (p = 0.5) at most 1/1.5 of that leaks",
    ),
    Wish(
        "to learn to act, and to shun what may go wrong",
        "stac",
        "aleator run control --env Pendulum-v1 --beta 0.5",
        "pendulum",
        "The late value error falls from beta 0 to ½",
    ),
    Wish(
        "to train on machines that a thin line joins",
        "one-byte",
        "aleator run decentral --machines 4",
        "codec",
        "One byte is as accurate as a float, within a point",
    ),
)
