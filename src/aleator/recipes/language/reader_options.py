"""Options of the recipe ``language`` that say what the model works on: bytes, tokens, or segments that it learns.

What they mean is built by `aleator.recipes.language.readers`. Options that only some have are None by default, which is
the default given with each, and are refused for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aleator.recipes.parts.named_words import named_words

Tokenization = Literal["bytes", "bpe", "dtp", "magnet"]

HOURGLASSES = ("dtp", "magnet")
# The tokenizations that have an option which others lack.
_OWNERS = {
    "vocabulary": ("bpe",),
    "hourglass_layers": HOURGLASSES,
    "boundary_rate": ("dtp",),
    "boundary_rates": ("magnet",),
    "scripts": ("magnet",),
}
# Of MAGNET's published configurations the one of a boundary every 5, 10 and 13 bytes.
RATES = {"latin": 0.2, "cyrillic": 0.1, "indic": 0.077}


@dataclass(frozen=True)
class TokenizationOptions:
    """What a model of text works on."""

    # --- what the model works on
    tokenization: Tokenization = "bytes"
    """Bytes; tokens of a byte-pair encoding, learned before on the training bytes; or segments of bytes, learned with
    the model: dtp has one boundary predictor, magnet one for each script. Figures are of the same bytes."""
    vocabulary: int | None = None
    """Tokens of the byte-pair encoding, the 256 bytes among them, by default 1024."""
    hourglass_layers: tuple[int, int, int] | None = None
    """Layers before, within and after the shortened part of dtp and magnet, by default 1 2 1."""
    boundary_rate: float | None = None
    """Boundaries per byte that dtp aims at, by default 0.2."""
    boundary_rates: tuple[str, ...] | None = None
    """Those that magnet aims at, each as SCRIPT=RATE. Default: latin=0.2 cyrillic=0.1 indic=0.077."""
    scripts: tuple[str, ...] | None = None
    """What domains are written in, each as NAME=SCRIPT. Default: found in their letters; scripts of India and its
    neighbours with their common ancestor are all called indic."""

    def check_tokenization(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        chosen = self.tokenization
        for name, owners in _OWNERS.items():
            value = getattr(self, name)
            if value is not None and chosen not in owners:
                shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
                raise ValueError(f"{name} cannot be used with tokenization {chosen}, got {shown}")
        if self.vocabulary is not None and self.vocabulary < 256:
            raise ValueError(f"vocabulary must be at least 256, the bytes, got {self.vocabulary}")
        if self.hourglass_layers is not None and min(self.hourglass_layers) < 0:
            shown = " ".join(map(str, self.hourglass_layers))
            raise ValueError(f"hourglass_layers must not be negative, got {shown}")
        if self.boundary_rate is not None and not 0 < self.boundary_rate < 1:
            raise ValueError(f"boundary_rate must be in (0, 1), got {self.boundary_rate}")
        _ = self.rates, self.scripts_given

    @property
    def rates(self) -> dict[str, float]:
        """The target rates of scripts that were given, by the names of the scripts."""
        rates = {}
        for name, word in named_words("boundary_rates", self.boundary_rates or (), "SCRIPT=RATE").items():
            try:
                rates[name] = float(word)
            except ValueError:
                raise ValueError(f"boundary_rates must be written SCRIPT=RATE, got {f'{name}={word}'!r}") from None
            if not 0 < rates[name] < 1:
                raise ValueError(f"boundary_rates must be in (0, 1), got {f'{name}={word}'}")
        return rates

    @property
    def scripts_given(self) -> dict[str, str]:
        """The scripts that were given, by the names of their domains."""
        return named_words("scripts", self.scripts or (), "NAME=SCRIPT")
