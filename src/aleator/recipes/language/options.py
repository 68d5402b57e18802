"""Language modelling on bytes, of one text or of several domains: sources, languages.

This file holds the options; `aleator.recipes.language.task` holds the task, `aleator.recipes.language.windows` says
which windows of which domain a step sees, and `MixtureOptions` in what proportion domains are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.language.reader_options import HOURGLASSES, TokenizationOptions
from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.descent import OptimizerOption, TrainingOptions
from aleator.recipes.parts.mixture import MixtureOptions
from aleator.recipes.parts.named_words import check_distinct, named_words
from aleator.recipes.parts.rows import rates

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

Data = Literal["tinyshakespeare", "wikitext2", "udhr2", "tico19", "ud-english-ewt"]


@dataclass(frozen=True)
class _Texts:
    """What is learned; a base of its own so that these come before the training options in the help."""

    # --- data
    data: tuple[Data, ...] = ()
    """The data set, or several whose domains are joined. Default: tinyshakespeare, unless there are files."""
    files: tuple[str, ...] = ()
    """Text files of one's own instead, each as NAME=PATH; every file is a domain. Of each the last tenth is for the
    test and the tenth before it for validation."""
    domains: tuple[str, ...] = ()
    """Use only these domains of the data. Default: all."""
    domain_bytes: tuple[str, ...] = ()
    """Train on no more than the first bytes of some domains, each as NAME=BYTES."""
    eval_bytes: int = 100_000
    """Evaluate on the first N bytes of every domain's validation or test part."""

    # --- which windows a step sees
    context: int = 64
    """Bytes of a window, each predicted from those before it in the window."""
    batch_size: int = 16
    """Windows in an optimizer step, over all processes."""
    steps: int = 300
    """Optimizer steps."""

    # --- the model
    model: Literal["transformer", "gru", "byte-lm"] = "transformer"
    """A decoder with rotary positions, RMSNorm and SwiGLU, as LLaMA; gated recurrent units; or, on bytes, the layers of
    dtp and magnet without their segments."""
    width: int = 64
    """Size of a position's representation."""
    layers: int = 2
    """Blocks of the transformer, or layers of recurrent units; dtp and magnet have hourglass layers."""
    heads: int | None = None
    """Attention heads, by default 4; recurrent units have none."""


_RATES = {
    "sgd": 0.1,
    "adamw": 0.01,
    "lamb": 0.02,
    "lars": 0.02,
    "signum": 0.002,
    "spectra-adamw": 0.01,
    "spectra-signum": 0.003,
    "spectra-ademamix": 0.003,
    "spectra-mars": 0.01,
}
LrOption = Annotated[float | None, tyro.conf.arg(help=f"Learning rate at its highest. Default: {rates(_RATES)}.")]


@dataclass(frozen=True)
class Language(TrainingOptions, MixtureOptions, TokenizationOptions, _Texts):
    """Model text byte by byte, with figures for every domain: optimizers, mixtures of languages, learned segments."""

    own_lr: ClassVar[Mapping[str, float]] = _RATES
    own_warmup: ClassVar[float] = 0.1
    own_lr_min: ClassVar[float | None] = 0.0

    optimizer: OptimizerOption = "adamw"
    lr: LrOption = None
    weight_decay: float = 0.1
    max_grad_norm: float | None = 1.0
    lr_min: float | None = None
    """Where the cosine ends. Default: 0."""
    warmup: float | None = None
    """Steps in which the learning rate first rises, see schedule; below 1, a share of all steps. Default: 0.1, with
    constant 0."""

    def check(self) -> None:
        """Check what can be checked without data."""
        self.check_tokenization()
        positive(self, "eval_bytes", "context", "batch_size", "steps", "width", "layers", "heads")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}, got {self.accumulate}")
        refuse_unless(self.model != "gru", "model gru", self, "heads")
        if self.model == "transformer" and self.width % (2 * self.attention_heads):
            got = f"{2 * self.attention_heads}, got {self.width}"
            raise ValueError(f"width must be a multiple of twice the heads, {got}")
        if self.model == "byte-lm" and (self.width % 2 or self.width % self.attention_heads):
            raise ValueError(
                f"width must be even and a multiple of the heads, {self.attention_heads}, got {self.width}"
            )
        if self.model == "byte-lm" and self.tokenization == "bpe":
            raise ValueError("model must be transformer or gru with tokenization bpe, got byte-lm")
        if self.tokenization in HOURGLASSES:
            # For a model that is not shortened; here hourglass_layers stand for both.
            for name, usual in (("model", "transformer"), ("layers", 2)):
                if (value := getattr(self, name)) != usual:
                    raise ValueError(f"{name} cannot be used with tokenization {self.tokenization}, got {value}")
        if self.data and self.files:
            raise ValueError(f"data cannot be used with files, got {' '.join(self.data)}")
        for what, names in (("data", self.data), ("domains", self.domains)):
            check_distinct(what, names)
        _ = self.paths, self.most_bytes

    @property
    def attention_heads(self) -> int:
        """Attention heads of the transformer."""
        return 4 if self.heads is None else self.heads

    @property
    def paths(self) -> dict[str, Path]:
        """The text files by the names of their domains."""
        return {name: Path(path) for name, path in named_words("files", self.files, "NAME=PATH").items()}

    @property
    def most_bytes(self) -> dict[str, int]:
        """How many bytes of a domain are for training at most, by the names of the domains that are cut."""
        pairs = named_words("domain_bytes", self.domain_bytes, "NAME=BYTES")
        for name, count in pairs.items():
            if not count.isdecimal() or int(count) < 1:
                raise ValueError(f"domain_bytes must be written NAME=BYTES, got {f'{name}={count}'!r}")
        return {name: int(count) for name, count in pairs.items()}

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        build = named("aleator.recipes.language.task:LanguageTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
