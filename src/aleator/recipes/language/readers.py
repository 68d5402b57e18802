"""Readers of a window of the recipe ``language``: as bytes, as tokens, or as segments that are learned.

A window's first byte is given and the others are predicted, whatever the tokenization:

    bytes    −ln p(byte | bytes before)
    tokens   −ln p(token | first byte, tokens before), of the tokens of all bytes but the first
    segments as bytes; boundaries are drawn and close a segment, see `aleator.language.MagnetLM`

so a window's sum, divided by the same number of bytes, compares models that read differently. A window may cut a word,
which costs a model of tokens more than it would in running text.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.language import DynamicPoolingLM, MagnetLM
from aleator.language.bytes_vocabulary import BYTE_IDS, FIRST_BYTE
from aleator.nn import binomial_boundary_loss
from aleator.recipes.language.models import BYTES, language_model
from aleator.recipes.language.reader_options import HOURGLASSES, RATES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from aleator.recipes.language.options import Language

# Words with the blank before them, and what is between words. Only these four bytes part words: others that Unicode
# calls blanks, as 0x85 and 0xA0, are here parts of characters.
WORDS = r" ?[^ \n\r\t]+|[ \n\r\t]+"
LETTERS = 10_000  # bytes in which the script of a domain is looked for
INDIC = {
    *("BENGALI", "DEVANAGARI", "GUJARATI", "GURMUKHI", "KANNADA"),
    *("MALAYALAM", "ORIYA", "SINHALA", "TAMIL", "TELUGU"),
}


class Reading(NamedTuple):
    """What a model makes of windows of n bytes.

    Attributes:
        nats: −ln p of what is predicted; where that are fewer than n − 1, zeros follow.
        boundaries: of the segments, 0 or 1, where there are any.
        probabilities: of the boundaries.
    """

    nats: Float[Tensor, "batch context"]
    boundaries: Float[Tensor, "batch length"] | None = None
    probabilities: Float[Tensor, "batch length"] | None = None


class Segmentation(NamedTuple):
    """What a training step remembers of the segments that were drawn in a piece of its batch.

    Attributes:
        penalty: the sum of the boundary losses of the rows, each times what it counts.
        rates: the boundaries per byte of each group of which the piece has rows.
    """

    penalty: Float[Tensor, ""]
    rates: dict[str, Float[Tensor, ""]]


class Bytes:
    """A model that reads bytes.

    Attributes:
        network: the model, as it was made.
    """

    network: nn.Module

    def __init__(self, options: Language) -> None:
        self.network = _plain_model(options, BYTES)

    def read(self, model: nn.Module, windows: Tensor, domains: Tensor, noise: Tensor | None) -> Reading:
        """Return what the model makes of windows.

        Args:
            model: the network, as it is called on its device.
            windows: bytes.
            domains: the index of each window's domain.
            noise: uniform numbers for the boundaries, which only segments need.
        """
        return Reading(_nats(model(windows[:, :-1]), windows[:, 1:]))

    def count(self, text: UInt8[Tensor, " bytes"]) -> int:
        """Return the bytes of a text."""
        return len(text)


class Tokens:
    """A model that reads tokens of a byte-pair encoding, which never span two words.

    Windows are tokenized as they come: their bytes go to the host.

    Args:
        options: of the recipe.
        texts: training bytes of each domain, from which the encoding is learned.
    """

    def __init__(self, options: Language, texts: Mapping[str, UInt8[Tensor, " bytes"]]) -> None:
        self.tokenizer = byte_pairs(texts, options.vocabulary or 1024)
        self.network = _plain_model(options, self.tokenizer.get_vocab_size())

    def read(self, model: nn.Module, windows: Tensor, domains: Tensor, noise: Tensor | None) -> Reading:
        """Return what the model makes of windows; see `Bytes.read`."""
        rows = [_characters(row) for row in windows.to("cpu", torch.uint8)]
        first = [self.tokenizer.token_to_id(row[0]) for row in rows]
        rest = self.tokenizer.encode_batch_fast([row[1:] for row in rows])
        length = max(len(encoded.ids) for encoded in rest)
        # What follows a row's tokens is not predicted, and any token may stand there as input.
        targets = torch.tensor([encoded.ids + [-100] * (length - len(encoded.ids)) for encoded in rest])
        inputs = torch.cat([torch.tensor(first)[:, None], targets[:, :-1].clamp(min=0)], 1)
        nats = _nats(model(inputs.to(windows.device)), targets.to(windows.device))
        return Reading(F.pad(nats, (0, windows.shape[1] - 1 - length)))

    def count(self, text: UInt8[Tensor, " bytes"]) -> int:
        """Return the tokens of a text."""
        return len(self.tokenizer.encode(_characters(text)).ids)


class Segments:
    """A model that reads bytes and learns to make segments of them.

    Args:
        options: of the recipe.
        texts: training bytes of each domain.

    Attributes:
        groups: what has a target rate of its own: the scripts, or ``"shared"`` alone.
        labels: the group of each domain, by their names.
        rates: α of each group.
        group_of: the index of each domain's group.

    Raises:
        ValueError: if a domain's script has no rate, or an option names a domain or script that is not there.
    """

    def __init__(self, options: Language, texts: Mapping[str, UInt8[Tensor, " bytes"]]) -> None:
        sizes: dict[str, Any] = {
            "vocab": BYTE_IDS,
            "layers": options.hourglass_layers or (1, 2, 1),
            "d_model": options.width,
            "n_heads": options.attention_heads,
            "d_head": options.width // options.attention_heads,
            "d_inner": 4 * options.width,
            "dropout": 0.0,
        }
        if options.tokenization == "dtp":
            rate = 0.2 if options.boundary_rate is None else options.boundary_rate
            self.labels, rates = dict.fromkeys(texts, "shared"), {"shared": rate}
            self.network: nn.Module = DynamicPoolingLM(rate=rate, names=["shared"], **sizes)
        else:
            self.labels = _labels(options, texts)
            rates = _rates(options, self.labels)
            self.network = MagnetLM(scripts=rates, **sizes)
        self.groups = tuple(rates)
        self.rates = torch.tensor(list(rates.values()), dtype=torch.float64)
        self.group_of = torch.tensor([self.groups.index(label) for label in self.labels.values()])

    def read(self, model: nn.Module, windows: Tensor, domains: Tensor, noise: Tensor | None) -> Reading:
        """Return what the model makes of windows; see `Bytes.read`."""
        ids = windows + FIRST_BYTE
        labels = [self.groups[group] for group in self.group_of[domains.cpu()].tolist()]
        output = model(ids, labels, noise=noise)
        return Reading(_nats(output.logits[:, :-1], ids[:, 1:]), output.boundaries, output.soft)

    def boundary_losses(
        self, boundaries: Float[Tensor, "batch length"], domains: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the boundary loss of each row, in nats per byte."""
        rates = self.rates.to(boundaries.device)[self.group_of.to(boundaries.device)[domains]]
        return binomial_boundary_loss(boundaries, rates)

    def label(self, name: str, text: UInt8[Tensor, " bytes"]) -> str:
        """Return the group of a text: the group of the domain of its name, or else of its script."""
        if name in self.labels:
            return self.labels[name]
        return "shared" if self.groups == ("shared",) else script_of(text) or name

    def rates_drawn(
        self, boundaries: Float[Tensor, "batch length"], domains: Int64[Tensor, " batch"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the boundaries per byte of each group in the batch."""
        groups = self.group_of[domains.cpu()]
        of_rows = boundaries.mean(1)
        return {self.groups[g]: of_rows[(groups == g).to(of_rows.device)].mean() for g in set(groups.tolist())}

    def members(self, domains: Int64[Tensor, " batch"]) -> Int64[Tensor, " groups"]:
        """Return how many rows each group has."""
        return self.group_of.to(domains.device)[domains].bincount(minlength=len(self.groups))


Reader = Bytes | Tokens | Segments


def make_reader(options: Language, texts: Mapping[str, UInt8[Tensor, " bytes"]]) -> Reader:
    """Return how windows are read, with an untrained model.

    Args:
        options: of the recipe.
        texts: training bytes of each domain.

    Raises:
        ImportError: if a package is missing.
        ValueError: as of `Segments`.
    """
    if options.tokenization in HOURGLASSES:
        return Segments(options, texts)
    return Tokens(options, texts) if options.tokenization == "bpe" else Bytes(options)


def byte_pairs(texts: Mapping[str, UInt8[Tensor, " bytes"]], vocabulary: int) -> Tokenizer:
    """Return a byte-pair encoding of texts, with the 256 bytes among its tokens, so that every text has tokens.

    Bytes are written as the characters of the same numbers. The same texts give the same encoding.

    Raises:
        ImportError: if ``tokenizers`` is not installed.
    """
    try:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        raise ImportError("tokenization bpe needs the extra 'text': pip install 'aleator[text]'") from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=[chr(byte) for byte in range(256)], show_progress=False
    )
    tokenizer.train_from_iterator([_characters(text) for text in texts.values()], trainer)
    return tokenizer


def script_of(text: UInt8[Tensor, " bytes"]) -> str | None:
    """Return in what script most of the first letters of a text are, by their names in Unicode; None without letters.

    The scripts that come from Brahmi and are written in and around India are all ``"indic"``, as in MAGNET.
    """
    letters = bytes(text[:LETTERS].tolist()).decode(errors="ignore")
    names = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters if letter.isalpha())
    if not names:
        return None
    found = names.most_common(1)[0][0]
    return "indic" if found in INDIC else found.lower()


def _labels(options: Language, texts: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the script of each domain."""
    given = options.scripts_given
    for name in given:
        if name not in texts:
            raise ValueError(f"scripts must name one of the domains {', '.join(texts)}, got {name!r}")
    labels = {}
    for name, text in texts.items():
        if (label := given.get(name) or script_of(text)) is None:
            raise ValueError(f"scripts must name the script of {name!r}, in which there is no letter")
        labels[name] = label
    return labels


def _rates(options: Language, labels: Mapping[str, str]) -> dict[str, float]:
    """Return the rate of each script."""
    scripts, given = list(dict.fromkeys(labels.values())), options.rates
    for name in given:
        if name not in scripts:
            raise ValueError(f"boundary_rates must name one of the scripts {', '.join(scripts)}, got {name!r}")
    rates = {**RATES, **given}
    for domain, script in labels.items():
        if script not in rates:
            raise ValueError(f"boundary_rates must give a rate for {script}, the script of {domain!r}, got none")
    return {script: rates[script] for script in scripts}


def _plain_model(options: Language, vocabulary: int) -> nn.Module:
    return language_model(
        options.model,
        width=options.width,
        layers=options.layers,
        heads=options.attention_heads,
        context=options.context,
        vocabulary=vocabulary,
    )


def _nats(scores: Tensor, targets: Tensor) -> Tensor:
    """Return −ln p of targets, 0 where there is none; in the model's precision, but float32 at least."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return F.cross_entropy(scores.transpose(1, 2), targets, reduction="none")


def _characters(text: Tensor) -> str:
    return text.numpy().tobytes().decode("latin-1")
