"""Digits of pi as text: a transformer that answers in words, or abstains.

    tell me about digit 0 0 0 7 of pi ‖ it is spelled t w o ‖ . ‖ sure , it is even ‖ .

The test draws answers for every n, more for those that are asked for more often, and looks up whether they are true: a
false statement, a text that is no statement and one that does not end are hallucinations. Rules that rank answers are
confidence, likelihood, entropy (minus the mean log-likelihood of the answers that were drawn for the same n) and
agreement (the share of those that say the same).

Streams: as in `aleator.recipes.pairs.data`; the key ``answers`` for what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor, nn

from aleator.experiment import Exhibit, Headline, Split
from aleator.language import pair_lm_loss, read_prompts, sample_responses, self_cheat_scores
from aleator.random import Streams
from aleator.recipes.pairs import digits_of_pi, exhibits
from aleator.recipes.pairs.data import DigitsOfPi
from aleator.recipes.pairs.measures import MATCHED, excess, filtered, rules
from aleator.recipes.pairs.task import PairTask

if TYPE_CHECKING:
    from aleator.recipes.pairs.options import Pairs

WIDTH, LAYERS, HEADS = 64, 2, 4
ANSWERS, AT_LEAST = 6000, 8  # drawn for the test, in proportion to how often n is asked for; and for every n
LONGEST = 12  # tokens of an answer; the longest statement has 10
SEPARATOR = 0
_PROMPT = ("tell", "me", "about", "digit", "of", "pi")
WORDS = (
    ".", *_PROMPT, *sorted({w for s in digits_of_pi.statements() for w in s.words} | set("0123456789"))
)  # fmt: skip
_ID = {word: index for index, word in enumerate(WORDS)}


def prompts(n: Int[Tensor, " batch"]) -> Int[Tensor, "batch 10"]:
    """Return the questions for digits, numbered from 0."""
    number = n + 1
    decimals = torch.stack([number // 1000, number // 100 % 10, number // 10 % 10, number % 10], 1)
    of_digit = torch.tensor([_ID[digit] for digit in "0123456789"], device=n.device)
    before, after = (
        torch.tensor([_ID[word] for word in words], device=n.device).expand(len(n), -1)
        for words in (_PROMPT[:4], _PROMPT[4:])
    )
    return torch.cat([before, of_digit[decimals], after], 1)


class TextNetwork(nn.Module):
    """A small decoder, and the texts of the statements."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from transformers import LlamaConfig, LlamaForCausalLM
        except ImportError:
            raise ImportError("data pi-text needs the extra 'text': pip install 'aleator[text]'") from None
        config = LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=64,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
        self.decoder = LlamaForCausalLM(config)
        self.texts = [torch.tensor([_ID[word] for word in s.words]) for s in digits_of_pi.statements()]

    def forward(
        self, inputs: Int[Tensor, "batch length"], y1: Int[Tensor, " batch"], y2: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return the loss of each pair of statements, given by their numbers."""
        first, second = ([self.texts[i].to(inputs.device) for i in y.tolist()] for y in (y1, y2))
        return pair_lm_loss(self.decoder, list(inputs), first, second, separator=SEPARATOR, reduction="none")


class TextPairTask(PairTask):
    """A language model of pairs of answers; see `aleator.experiment.Task`."""

    headline = Headline("pair_nll", "min")
    problem: DigitsOfPi

    def __init__(self, options: Pairs, streams: Streams, accelerator: Accelerator) -> None:
        self.problem = DigitsOfPi(options, streams, accelerator)
        self.answers_key = streams.key("answers")
        super().__init__(options, accelerator, TextNetwork(), warmup=0.05, max_grad_norm=1.0)
        self._shown: Exhibit | None = None

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the picture of whom to answer."""
        return [self._shown] if self._shown else []

    def _network_input(self, inputs: Tensor) -> Tensor:
        return prompts(inputs)

    def _measured(self, split: Split) -> dict[str, float]:
        name: Any = split
        metrics = {"pair_nll": self._loss(name)}
        return metrics | self._abstention() if split == "test" else metrics

    def _abstention(self) -> dict[str, float]:
        asked = digits_of_pi.frequencies()
        times = (asked * ANSWERS).ceil().long().clamp(min=AT_LEAST)
        n = torch.repeat_interleave(torch.arange(len(asked)), times)
        mass = (asked / times)[n]
        logp, doubt, said = self._drawn(n)
        p_true = self.problem.probabilities
        wrong = torch.tensor([i < 0 or p_true[row, i] == 0 for row, i in zip(n.tolist(), said, strict=True)]).double()
        metrics = filtered(mass, doubt, wrong)
        metrics["excess"] = excess(metrics)
        metrics["malformed"] = float((mass * torch.tensor([i < 0 for i in said])).sum())
        surprise = torch.zeros(len(asked), dtype=torch.float64).index_add_(0, n, -logp.clamp(min=-1e3)) / times
        keys = n * (len(p_true[0]) + 1) + torch.tensor(said)
        _, place, count = torch.unique(keys, return_inverse=True, return_counts=True)
        agreement = (count[place] - 1) / (times[n] - 1)
        scores = {"confidence": -doubt, "likelihood": logp.exp(), "entropy": -surprise[n], "agreement": agreement}
        scores = {name: score.double() for name, score in scores.items()}
        metrics |= rules(scores, wrong, mass, metrics[f"answered_{MATCHED:g}"])
        self._shown = exhibits.whom_to_answer(scores, doubt, wrong, mass, "not true")
        return metrics

    def _drawn(self, n: Tensor) -> tuple[Tensor, Tensor, list[int]]:
        """Draw an answer to each question; return log p₁, doubt, and the number of the statement or −1."""
        network = cast("TextNetwork", self._network)
        numbers = {tuple(text.tolist()): index for index, text in enumerate(network.texts)}
        generator = Streams(self.answers_key).generator("answers", device=self.accelerator.device)
        logp, doubt = torch.full((len(n),), -torch.inf).double(), torch.ones(len(n)).double()
        said: list[int] = []
        for rows in torch.split(torch.arange(len(n)), 1000):
            questions = prompts(n[rows].to(self.accelerator.device))
            read = read_prompts(network.decoder, questions)
            answers = sample_responses(
                network.decoder, read, separator=SEPARATOR, max_new_tokens=LONGEST, generator=generator
            )
            ended = [i for i, answer in enumerate(answers) if answer is not None]
            whole = [answer for answer in answers if answer is not None]
            scores = self_cheat_scores(network.decoder, questions[ended], whole, separator=SEPARATOR)
            logp[rows[ended]] = scores.logp1.cpu()
            doubt[rows[ended]] = 1 - scores.confidence.clamp(max=1).cpu()
            said += [-1 if answer is None else numbers.get(tuple(answer.tolist()), -1) for answer in answers]
        return logp, doubt, said
