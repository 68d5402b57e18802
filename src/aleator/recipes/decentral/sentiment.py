"""The sentiment of film reviews (SST-2), asked of a causal language model of transformers in a prompt.

The loss of "SENTENCE sentiment :" is the cross entropy between two next words, "positive" and "negative", as MeZO has
it for two classes. Without a checkpoint a small model of words is trained here first, by AdamW: it learns the
sentences of one half of the training data as text, each followed by "it was" and "good" or "bad". The swarm then
learns from the other half, with words of the question that the model has not seen in their new use. A checkpoint of a
larger model goes the same way with its own tokenizer.

The small model is the same for every run. It is trained in float32: two kinds of processors may come to different
bits, and a swarm of them needs one checkpoint, which `save_checkpoint` writes.
"""

from __future__ import annotations

import gzip
import importlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.experiment import Split
from aleator.experiment.files import read_json, write_json
from aleator.gradients import functional_loss, trainable
from aleator.random import Streams
from aleator.recipes.decentral.batches import batch_indices
from aleator.recipes.decentral.learned import TaskOptions

Words = Sequence[str]
Encode = Callable[[str], list[int]]

_WORDS = "words.json"  # the vocabulary of a checkpoint of the small model
_LONGEST = 48  # tokens of a sentence; longer ones lose their beginning
_VOCABULARY = 3000
_FIRST_PROMPT, _FIRST_LABELS = "it was", ("bad", "good")
_PROMPT, _LABELS = "sentiment :", ("negative", "positive")
_PRETRAINING = 200  # steps of 32 sentences
_AS_TEXT = 2  # of them are also learned as text: a vocabulary's worth of logits for each word takes most of the time

Batch = tuple[Int64[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"], Int64[Tensor, " batch"]]


class Sentiment:
    """Prompts of SST-2 for a causal language model; see the module."""

    def __init__(self, options: TaskOptions, run: int) -> None:
        """Read the data and make θ₀.

        Raises:
            ValueError: if a label has no token in the checkpoint's tokenizer.
            FileNotFoundError: if the data or the checkpoint are not there.
            ImportError: if transformers or peft are not installed.
        """
        self.options, self.run = options, run
        train = _read("train")
        if options.checkpoint is None:
            model, words = small_model(train[::2])
            encode = _words(words)
        else:
            model, encode = _loaded(options.checkpoint)
        if options.checkpoint is None or (Path(options.checkpoint) / _WORDS).is_file():
            train = train[1::2]  # the other half is what the small model was trained on
        model.eval().requires_grad_(options.lora is None)
        self.network: nn.Module = model
        if options.lora is not None:
            with Streams(run).scope("init"):
                self.network = _adapted(model, options.lora)
        self._labels = torch.tensor([_one_token(encode, label) for label in _LABELS])
        rows = {"train": train, "validation": _read("dev"), "test": _read("test")}
        self.examples = {name: _prompts(found, encode, _PROMPT) for name, found in rows.items()}
        self.theta = trainable(self.network)
        self._loss = functional_loss(
            self.network, lambda net, batch: F.cross_entropy(self._scores(net, batch), batch[2])
        )

    def batch(self, number: int, machine: int, sample: int) -> Batch:
        """Return the batch of a round, a machine and a sample."""
        tokens, known, labels = self.examples["train"]
        chosen = batch_indices(
            self.run, number, machine, sample,
            size=self.options.batch_size, examples=len(labels), shards=self.options.shards,
        )  # fmt: skip
        longest = int(known[chosen].sum(1).max())  # what nobody in the batch needs is not computed
        return tokens[chosen, :longest], known[chosen, :longest], labels[chosen]

    def loss(self, theta: Mapping[str, Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Return the cross entropy between the two labels, in float32."""
        return self._loss(theta, batch)

    @torch.no_grad()
    def evaluate(self, theta: Mapping[str, Tensor], split: Split) -> dict[str, float]:
        """Return loss, accuracy and the number of examples of a split."""
        whole = self.examples[split]
        losses, right = [], []
        for first in range(0, len(whole[2]), 128):
            tokens, known, labels = (part[first : first + 128] for part in whole)
            longest = int(known.sum(1).max())
            batch = (tokens[:, :longest], known[:, :longest], labels)
            scores = torch.func.functional_call(_Scores(self), _under("network.", theta), (batch,))
            losses.append(F.cross_entropy(scores, labels, reduction="none"))
            right.append(scores.argmax(1) == labels)
        return {
            "loss": float(torch.cat(losses).double().mean()),
            "accuracy": float(torch.cat(right).double().mean()),
            "examples": len(whole[2]),
        }

    def _scores(self, network: Any, batch: Batch) -> Float[Tensor, "batch 2"]:
        tokens, known, _ = batch
        logits = network(input_ids=tokens, attention_mask=known.long(), use_cache=False).logits
        last = known.sum(1) - 1
        found: Tensor = logits[torch.arange(len(tokens)), last][:, self._labels].float()
        return found


class _Scores(nn.Module):
    def __init__(self, task: Sentiment) -> None:
        super().__init__()
        self.network, self._of = task.network, task._scores

    def forward(self, batch: Batch) -> Tensor:
        return self._of(self.network, batch)


def _under(prefix: str, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in theta.items()}


def _read(part: str) -> list[tuple[str, int]]:
    root = os.environ.get("ALEATOR_DATA")
    path = Path(root or ".") / "sst2" / f"{part}.tsv.gz"
    if root is None or not path.is_file():
        raise FileNotFoundError(f"learned sst2 needs {path.name} in the folder sst2 of ALEATOR_DATA, got {root}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return [(text, int(label)) for text, label in rows]


def _prompts(rows: Sequence[tuple[str, int]], encode: Encode, prompt: str) -> Batch:
    """Token ids, padded at their ends, which of them are tokens, and labels."""
    question = encode(" " + prompt)
    found = [encode(text)[-_LONGEST:] + question for text, _ in rows]
    width = max(map(len, found))
    tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in found])
    known = torch.arange(width) < torch.tensor([len(ids) for ids in found])[:, None]
    return tokens, known, torch.tensor([label for _, label in rows])


def _one_token(encode: Encode, label: str) -> int:
    ids = encode(" " + label)
    if not ids:
        raise ValueError(f"checkpoint must have a token for {label!r}, got none")
    return ids[0]  # of a longer word the first, as MeZO does


def _words(vocabulary: Mapping[str, int]) -> Encode:
    return lambda text: [vocabulary.get(word, 1) for word in text.split()]


def small_model(rows: Sequence[tuple[str, int]]) -> tuple[Any, dict[str, int]]:
    """Train a small GPT-2 of words on sentences and their labels in other words, and return it with its vocabulary."""
    transformers = _needed("transformers")
    prompts = [*_FIRST_PROMPT.split(), *_FIRST_LABELS, *_PROMPT.split(), *_LABELS]
    counts = Counter(word for text, _ in rows for word in text.split())
    kept = [word for word, _ in counts.most_common(_VOCABULARY) if word not in prompts]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unknown>", *prompts, *kept])}
    encode = _words(vocabulary)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary), n_positions=_LONGEST + 8, n_embd=64, n_layer=2, n_head=4,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    streams = Streams(0)
    with streams.scope("init"):
        model = transformers.GPT2LMHeadModel(config)
    tokens, known, labels = _prompts(rows, encode, _FIRST_PROMPT)
    answers = torch.tensor([encode(label)[0] for label in _FIRST_LABELS])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = streams.generator("pretraining")
    for step in range(_PRETRAINING):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / _PRETRAINING)
        chosen = torch.randint(len(rows), (32,), generator=generator)
        longest = int(known[chosen].sum(1).max())
        ids, there = tokens[chosen, :longest], known[chosen, :longest]
        with streams.scope("dropout"):
            found = model.transformer(input_ids=ids, attention_mask=there.long(), use_cache=False)
        hidden = found.last_hidden_state
        asked = hidden[torch.arange(32), there.sum(1) - 1] @ model.lm_head.weight[answers].T
        followed = there[:_AS_TEXT, 1:]  # words that are predicted from those before, of some sentences
        text = F.cross_entropy(model.lm_head(hidden[:_AS_TEXT, :-1][followed]), ids[:_AS_TEXT, 1:][followed])
        optimizer.zero_grad()
        (F.cross_entropy(asked, labels[chosen]) + 0.05 * text).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval(), vocabulary


def save_checkpoint(folder: str | Path) -> None:
    """Train the small model and write it to a folder that the option ``checkpoint`` takes, its words in words.json."""
    model, vocabulary = small_model(_read("train")[::2])
    model.save_pretrained(folder)
    write_json(Path(folder) / _WORDS, vocabulary)


def _loaded(folder: str) -> tuple[nn.Module, Encode]:
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"checkpoint must be a folder with a model of transformers, got {folder}")
    transformers = _needed("transformers")
    model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(
        path, local_files_only=True, dtype=torch.float32
    )
    if (path / _WORDS).is_file():
        return model, _words(read_json(path / _WORDS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    return model, lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _adapted(model: nn.Module, rank: int) -> nn.Module:
    peft = _needed("peft")
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    adapted: nn.Module = peft.get_peft_model(model, settings)
    return adapted.eval()


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ImportError("learned sst2 needs the extra 'decentral': pip install 'aleator[decentral]'") from None
