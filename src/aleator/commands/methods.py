"""The methods of the house: what each does, where it lives, which paper it comes from, what it was seen to do.

A table that imports nothing, read by ``aleator list``. The verdicts come from ``evidence/NAME.json`` of the repository,
which the package does not carry when it is installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVIDENCE = Path(__file__).parents[3] / "evidence"


@dataclass(frozen=True)
class Method:
    """A published method.

    Attributes:
        name: of its card in ``docs/methods`` and its file in ``evidence``.
        room: the package that it lives in, by the question it answers.
        import_path: the drop-in, as ``"module:Name"``.
        summary: what it does, in one line.
        paper: authors, year and arXiv number.
    """

    name: str
    room: str
    import_path: str
    summary: str
    paper: str

    @property
    def evidence_file(self) -> Path:
        """Where its evidence is, in a checkout of the repository."""
        return EVIDENCE / f"{self.name}.json"


METHODS = (
    Method(
        name="rs2",
        room="aleator.data",
        import_path="aleator.data:RepeatedRandomSampler",
        summary="repeated random sampling: a new random subset in every round instead of one that is selected",
        paper="Okanovic et al. 2023, arXiv 2305.18424",
    ),
    Method(
        name="lamb",
        room="aleator.optim",
        import_path="aleator.optim:LAMB",
        summary="LAMB and LARS: steps as long as each layer's weights, for settings that move to larger batches",
        paper="You et al. 2019, arXiv 1904.00962",
    ),
    Method(
        name="spectra",
        room="aleator.optim",
        import_path="aleator.optim:SpectraAdamW",
        summary="soft spectral clipping: bounds the singular values of every update of AdamW and its kin",
        paper="Jiang et al. 2026, arXiv 2603.14315",
    ),
    Method(
        name="cooldown",
        room="aleator.data",
        import_path="aleator.data:Cooldown",
        summary="mixtures of domains: small ones are sampled more often first, and in proportion to size afterwards",
        paper="Li et al. 2024, arXiv 2410.04579",
    ),
    Method(
        name="learning-curves",
        room="aleator.stats",
        import_path="aleator.stats:LearningTrace",
        summary="learning-curve forecasts: what accuracy more data will bring, and when a forecast may be trusted",
        paper="Vilares Ferro et al. 2017, arXiv 2402.02515",
    ),
    Method(
        name="stochastic-neurons",
        room="aleator.nn",
        import_path="aleator.nn:ConditionalLinear",
        summary="random bits inside a model: gradients through them, and layers whose shut blocks are not computed",
        paper="Bengio et al. 2013, arXiv 1308.3432",
    ),
    Method(
        name="magnet",
        room="aleator.language",
        import_path="aleator.language:MagnetLM",
        summary="MAGNET: a byte-level language model that learns its segments, with a rate for each script",
        paper="Ahia et al. 2024, arXiv 2407.08818",
    ),
    Method(
        name="tract",
        room="aleator.nn",
        import_path="aleator.nn:apply_tract",
        summary="TrAct: first layers that learn from an image as much whether it is bright or dim",
        paper="Petersen et al. 2024, arXiv 2410.23970",
    ),
    Method(
        name="target-surrogates",
        room="aleator.optim",
        import_path="aleator.optim:TargetSurrogate",
        summary="many parameter updates for one gradient of the loss in the outputs, where that is what costs",
        paper="Lavington et al. 2023, arXiv 2302.02607",
    ),
    Method(
        name="rmt-lr",
        room="aleator.optim",
        import_path="aleator.optim:CurvatureLRScheduler",
        summary="learning rates read off the curvature: the largest stable one at each batch size, and while training",
        paper="Granziol et al. 2020, arXiv 2006.09092",
    ),
    Method(
        name="sym-stdp",
        room="aleator.spiking",
        import_path="aleator.spiking:SymSTDPClassifier",
        summary="symmetric STDP: a spiking classifier that learns from a teacher's spikes, without backpropagation",
        paper="Hao et al. 2018, arXiv 1812.06574",
    ),
    Method(
        name="gdss",
        room="aleator.graphs",
        import_path="aleator.graphs:GDSS",
        summary="GDSS: generates graphs and molecules, node features and edges together, by a system of SDEs",
        paper="Jo et al. 2022, arXiv 2202.02514",
    ),
    Method(
        name="pairs",
        room="aleator.nn",
        import_path="aleator.nn:PairHead",
        summary="pair prediction: predicts two answers together, to say how wrong its probabilities may be",
        paper="Johnson et al. 2024, arXiv 2402.08733",
    ),
    Method(
        name="sdgd",
        room="aleator.gradients",
        import_path="aleator.gradients:SDGD",
        summary="SDGD: equations in many dimensions, from a few of their second derivatives in each step",
        paper="Hu et al. 2023, arXiv 2307.12306",
    ),
    Method(
        name="intro-ml",
        room="aleator.optim",
        import_path="aleator.optim:ProximalSGD",
        summary="Foundations: proximal steps with exact zeros, and learning rates that fall when a test says so",
        paper="Younes 2024, arXiv 2409.02668",
    ),
    Method(
        name="adadagrad",
        room="aleator.data",
        import_path="aleator.data:BatchSizeController",
        summary="AdAdaGrad: batches that grow when a test says that their gradients are too noisy",
        paper="Lau et al. 2024, arXiv 2402.11215",
    ),
    Method(
        name="stac",
        room="aleator.rl",
        import_path="aleator.rl:STAC",
        summary="STAC: an actor-critic with one critic, which knows the spread of its target and is pessimistic by it",
        paper="Özalp 2026, arXiv 2601.00737",
    ),
    Method(
        name="one-byte",
        room="aleator.gradients",
        import_path="aleator.gradients:spsa",
        summary="one byte per gradient: machines that share random directions train together over a thin line",
        paper="Zelikman et al. 2023, arXiv 2306.10015",
    ),
    Method(
        name="euphonium",
        room="aleator.video",
        import_path="aleator.video:DualRewardGRPO",
        summary="Euphonium: a flow that is aligned with rewards of its samples and of its steps; DanceGRPO, Flow-GRPO",
        paper="Zhong et al. 2026, arXiv 2602.04928",
    ),
    Method(
        name="echovideo",
        room="aleator.nn",
        import_path="aleator.nn:StochasticConditioning",
        summary="EchoVideo: a condition that is there at random, so that a model does not copy it; identity in video",
        paper="Wei et al. 2025, arXiv 2501.13452",
    ),
    Method(
        name="s3im",
        room="aleator.losses",
        import_path="aleator.losses:S3IM",
        summary="S3IM: structural similarity of random pixels, beside the squared error of neural fields",
        paper="Xie et al. 2023, arXiv 2308.07032",
    ),
)


VERDICTS = ("reproduced", "partly", "not", "not run")


def is_identical(claim: dict[str, Any]) -> bool:
    """Whether what a claim compares is the same in every seed: so by construction, and its agreement no evidence."""
    return bool(claim["constant"]) and next(iter(claim["figures"].values())) == 0


def verdicts(method: Method) -> str:
    """Return how many claims have which verdict, or ``"see docs"`` where there is no evidence file.

    README and ``aleator list`` both say this. Claims that are so by construction do not count, see `is_identical`.
    """
    if not method.evidence_file.is_file():
        return "see docs"
    claims = json.loads(method.evidence_file.read_text(encoding="utf-8"))["claims"]
    found = [claim["verdict"] for claim in claims if not is_identical(claim)]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found) or "no claim"
