"""The methods of the house: what each does, where it lives, which paper it comes from, what it was seen to do.

A table that imports nothing, read by ``aleator list``. The verdicts come from ``evidence/NAME.json`` of the repository,
which the package does not carry when it is installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
        name="target-surrogates",
        room="aleator.optim",
        import_path="aleator.optim:TargetSurrogate",
        summary="many parameter updates for one gradient of the loss in the outputs, where that is what costs",
        paper="Lavington et al. 2023, arXiv 2302.02607",
    ),
)


def verdicts(method: Method) -> str:
    """Return how many claims have which verdict, or ``"see docs"`` where the repository is not there."""
    if not method.evidence_file.is_file():
        return "see docs"
    claims = json.loads(method.evidence_file.read_text(encoding="utf-8"))["claims"]
    found = [claim["verdict"] for claim in claims]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in dict.fromkeys(found)) or "no claim"
