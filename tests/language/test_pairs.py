"""Pairs of responses in one text: exact sums over a tiny vocabulary, nothing of padding, one pass and a cache."""

import copy

import pytest
import torch

from aleator.language import (
    answer_or_abstain,
    pair_batch,
    pair_lm_loss,
    read_prompts,
    sample_responses,
    self_cheat_scores,
)
from aleator.random import Streams
from aleator.stats import ABSTAIN

transformers = pytest.importorskip("transformers")

VOCABULARY, SEPARATOR = 7, 0
PROMPT = torch.tensor([1, 2, 3])
RESPONSES = [torch.tensor([4, 5]), torch.tensor([6]), torch.tensor([5, 5, 4, 1]), torch.tensor([], dtype=torch.int64)]


def model(kind: str = "gpt2", scale: float = 6):
    with Streams(0).scope("init"):
        if kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=64,
                n_embd=16,
                n_layer=2,
                n_head=2,
                bos_token_id=None,
                eos_token_id=None,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
            )
            made = transformers.GPT2LMHeadModel(config)
        else:
            config = transformers.LlamaConfig(
                vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=2, pad_token_id=None, bos_token_id=None, eos_token_id=None,
            )  # fmt: skip
            made = transformers.LlamaForCausalLM(config)
        for parameter in made.parameters():  # far from uniform, so that there is something to see
            parameter.data.mul_(scale if parameter.ndim > 1 else 1)
    return made.double().eval()


def by_hand(decoder, prompt: torch.Tensor, y1: torch.Tensor, y2: torch.Tensor) -> tuple[float, float]:
    """Both log-likelihoods, each from a pass of its own and a sum of its own."""
    end = torch.tensor([SEPARATOR])

    def log_likelihood(before, response):
        whole = torch.cat([before, response, end]).unsqueeze(0)
        logs = decoder(input_ids=whole).logits[0].log_softmax(-1)
        places = range(len(before), whole.shape[1])
        return float(sum(logs[place - 1, whole[0, place]] for place in places).detach())

    return log_likelihood(prompt, y1), log_likelihood(torch.cat([prompt, y1, end]), y2)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_one_pass_gives_both_likelihoods(kind):
    decoder = model(kind)
    found = self_cheat_scores(decoder, PROMPT, RESPONSES, separator=SEPARATOR)
    exact = torch.tensor([by_hand(decoder, PROMPT, y, y) for y in RESPONSES]).double()
    assert torch.allclose(torch.stack([found.logp1, found.logp2], 1), exact, atol=1e-6)
    p1, p2 = found.logp1.exp(), found.logp2.exp()
    assert torch.allclose(found.variance, p1 * (p2 - p1), atol=1e-12)
    assert torch.allclose(found.confidence, p1 / p2, rtol=1e-9)
    assert found.logp1.dtype == torch.float64


def test_scores_depend_neither_on_company_nor_on_how_the_prompt_is_given():
    decoder = model()
    together = self_cheat_scores(decoder, PROMPT, RESPONSES, separator=SEPARATOR)
    read = read_prompts(decoder, PROMPT.unsqueeze(0))
    for index, response in enumerate(RESPONSES):
        alone = self_cheat_scores(decoder, read, [response], separator=SEPARATOR)
        assert float(alone.logp2 - together.logp2[index]) == pytest.approx(0, abs=1e-10)
    each = self_cheat_scores(decoder, PROMPT.expand(4, -1), RESPONSES, separator=SEPARATOR)
    assert torch.allclose(each.logp1, together.logp1, atol=1e-10)


def test_texts_of_one_length_may_be_a_tensor_and_one_response_a_row():
    decoder, y = model(), torch.tensor([[4, 5], [6, 6]])
    prompts = PROMPT.expand(2, -1)
    loss = pair_lm_loss(decoder, list(prompts), list(y), list(y), separator=SEPARATOR)
    assert torch.equal(pair_lm_loss(decoder, prompts, y, y, separator=SEPARATOR), loss)
    scores = self_cheat_scores(decoder, PROMPT, list(y), separator=SEPARATOR)
    assert torch.allclose(self_cheat_scores(decoder, prompts, y, separator=SEPARATOR).logp2, scores.logp2)
    one = self_cheat_scores(decoder, PROMPT, y[0], separator=SEPARATOR)
    assert torch.allclose(one.logp1, scores.logp1[:1])


def test_the_models_own_end_is_the_separator_by_default():
    decoder, y = model(), [torch.tensor([4, 5])]
    decoder.config.eos_token_id = SEPARATOR
    with_it = self_cheat_scores(decoder, PROMPT, y, separator=SEPARATOR)
    assert all(torch.equal(*pair) for pair in zip(self_cheat_scores(decoder, PROMPT, y), with_it, strict=True))
    assert pair_lm_loss(decoder, [PROMPT], y, y) == pair_lm_loss(decoder, [PROMPT], y, y, separator=SEPARATOR)


def test_prompts_of_a_batch_keep_their_own_responses():
    decoder = model()
    prompts = torch.tensor([[1, 2, 3], [3, 3, 1]])
    found = self_cheat_scores(decoder, prompts, RESPONSES[:2], separator=SEPARATOR)
    exact = [by_hand(decoder, prompt, y, y) for prompt, y in zip(prompts, RESPONSES, strict=False)]
    assert torch.allclose(torch.stack([found.logp1, found.logp2], 1), torch.tensor(exact).double(), atol=1e-6)


def test_a_prompt_is_read_once_for_all_candidates():
    decoder = model()
    lengths = []
    forward = decoder.forward

    def counted(*args, **kwargs):
        lengths.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    decoder.forward = counted
    read = read_prompts(decoder, PROMPT.unsqueeze(0))
    for _ in range(2):
        self_cheat_scores(decoder, read, RESPONSES[:2], separator=SEPARATOR)
    assert [tuple(shape) for shape in lengths] == [(1, 3), (2, 5), (2, 5)]  # 2|y| + 1 of the longer response


def test_loss_is_the_likelihood_of_both_and_of_nothing_else():
    decoder = model()
    prompts = [PROMPT, torch.tensor([2]), torch.tensor([3, 1, 1, 1, 2])]
    y1, y2 = RESPONSES[:3], [RESPONSES[2], RESPONSES[3], RESPONSES[0]]
    losses = pair_lm_loss(decoder, prompts, y1, y2, separator=SEPARATOR, reduction="none")
    exact = [-sum(by_hand(decoder, *row)) for row in zip(prompts, y1, y2, strict=True)]
    assert torch.allclose(losses, torch.tensor(exact).double(), atol=1e-6)
    mean = pair_lm_loss(decoder, prompts, y1, y2, separator=SEPARATOR)
    assert float(mean.detach()) == pytest.approx(sum(exact) / 3, abs=1e-6)
    flipped = pair_lm_loss(decoder, prompts[::-1], y1[::-1], y2[::-1], separator=SEPARATOR, reduction="none")
    assert torch.allclose(flipped.flip(0), losses, atol=1e-10)


def test_batch_is_what_a_hugging_face_model_takes():
    decoder = model()
    batch = pair_batch([PROMPT, PROMPT[:1]], RESPONSES[:2], RESPONSES[1:3], separator=SEPARATOR)
    assert batch["input_ids"].tolist()[0] == [1, 2, 3, 4, 5, 0, 6, 0]
    assert batch["labels"].tolist()[0] == [-100, -100, -100, 4, 5, 0, 6, 0]
    losses = pair_lm_loss(
        decoder, [PROMPT, PROMPT[:1]], RESPONSES[:2], RESPONSES[1:3], separator=SEPARATOR, reduction="none"
    )
    of_tokens = decoder(**batch).loss.detach()
    assert float(of_tokens) == pytest.approx(float(losses.detach().sum() / (batch["labels"] != -100).sum()), rel=1e-6)


def test_training_teaches_pairs():
    decoder = model(scale=4).float().train()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.003)
    y = [torch.tensor([4]), torch.tensor([5])]
    prompts, first, second = [PROMPT] * 2, y, y  # both answers occur, and never one after the other
    for _ in range(200):
        optimizer.zero_grad()
        pair_lm_loss(decoder, prompts, first, second, separator=SEPARATOR).backward()
        optimizer.step()
    scores = self_cheat_scores(decoder.eval(), PROMPT, y, separator=SEPARATOR)
    # p = (½, ½) where the truth is (1, 0) or (0, 1): V = ¼ and C = ½.
    assert torch.allclose(scores.variance, torch.full((2,), 0.25).double(), atol=0.05)
    assert torch.allclose(scores.confidence, torch.full((2,), 0.5).double(), atol=0.1)


def test_samples_are_of_the_first_marginal_and_end_at_the_separator():
    """At 4 standard errors the false-alarm rate is 1 in 16,000 for each response; the seed is fixed."""
    decoder = model("llama")
    generator = Streams(0).generator("samples")
    drawn = sample_responses(
        decoder, PROMPT.expand(4000, -1), separator=SEPARATOR, max_new_tokens=3, generator=generator
    )
    assert all(row is None or (len(row) <= 3 and not (row == SEPARATOR).any()) for row in drawn)
    whole = [tuple(row.tolist()) for row in drawn if row is not None]
    likeliest = max(set(whole), key=whole.count)
    p = float(
        self_cheat_scores(
            decoder, PROMPT, [torch.tensor(likeliest, dtype=torch.int64)], separator=SEPARATOR
        ).logp1.exp()
    )
    assert abs(whole.count(likeliest) / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5


def test_samples_depend_on_the_generator_alone():
    decoder = model()
    one, same, other = (
        sample_responses(decoder, PROMPT.expand(5, -1), separator=SEPARATOR, generator=Streams(seed).generator("s"))
        for seed in (0, 0, 1)
    )
    rows = [[None if row is None else row.tolist() for row in drawn] for drawn in (one, same, other)]
    assert rows[0] == rows[1] != rows[2]


def test_reading_and_scoring_leave_the_cache_as_it_was():
    decoder = model()
    read = read_prompts(decoder, PROMPT.unsqueeze(0))
    before = copy.deepcopy(read.cache)
    self_cheat_scores(decoder, read, RESPONSES, separator=SEPARATOR)
    sample_responses(decoder, read, separator=SEPARATOR, generator=Streams(0).generator("s"))
    assert read.cache.get_seq_length() == before.get_seq_length() == 3


def test_answers_are_given_where_doubt_is_small_and_abstained_from_elsewhere():
    decoder = model()
    scores = self_cheat_scores(decoder, PROMPT, RESPONSES, separator=SEPARATOR)
    doubt = 1 - scores.confidence.clamp(max=1)
    likeliest = [RESPONSES[i] for i in scores.logp1.argsort(descending=True).tolist()]
    beta = 0.5
    good = [y for y in likeliest if float(doubt[[y is r for r in RESPONSES].index(True)]) <= beta]
    answer = answer_or_abstain(decoder, PROMPT, beta, separator=SEPARATOR, mode="top1", candidates=RESPONSES)
    assert answer.bound == beta
    assert answer.response is (good[0] if good else ABSTAIN)
    drawn = answer_or_abstain(
        decoder, PROMPT, 0.9, separator=SEPARATOR, max_tries=50, generator=Streams(0).generator("answers")
    )
    assert drawn.response is not ABSTAIN
    assert 1 - drawn.confidence <= 0.9
    assert float(
        self_cheat_scores(decoder, PROMPT, [drawn.response], separator=SEPARATOR).confidence.clamp(max=1)
    ) == pytest.approx(drawn.confidence)


def test_a_response_without_an_end_is_not_given():
    decoder = model()
    decoder.lm_head = torch.nn.utils.skip_init(torch.nn.Linear, 16, VOCABULARY).double()
    with torch.no_grad():
        decoder.lm_head.weight.zero_()
        decoder.lm_head.bias.copy_(torch.tensor([-100.0] + [0.0] * (VOCABULARY - 1)))
    answer = answer_or_abstain(
        decoder, PROMPT, 0.9, separator=SEPARATOR, max_new_tokens=3, generator=Streams(0).generator("answers")
    )
    assert (answer.response, answer.confidence) == (ABSTAIN, None)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: pair_batch([], [], [], separator=0), "must be equally many, at least one, got 0, 0 and 0"),
        (lambda m: pair_batch([PROMPT], [PROMPT], [], separator=0), "got 1, 1 and 0"),
        (lambda m: pair_batch([PROMPT[:0]], [PROMPT], [PROMPT], separator=0), "got an empty one"),
        (
            lambda m: pair_batch([PROMPT], [PROMPT], [PROMPT], separator=3),
            r"y1 must not hold the separator 3, which ends a response, got",
        ),
        (
            lambda m: pair_lm_loss(m, [PROMPT], [PROMPT], [PROMPT], separator=0, reduction="sum"),
            "mean or none, got 'sum'",
        ),
        (lambda m: self_cheat_scores(m, PROMPT, [PROMPT]), "separator must be given .*, got None"),
        (lambda m: self_cheat_scores(m, PROMPT, [], separator=0), "y must hold at least one response, got none"),
        (
            lambda m: self_cheat_scores(m, PROMPT, [PROMPT.double()], separator=0),
            "rows of token ids, got torch.float64",
        ),
        (
            lambda m: self_cheat_scores(m, PROMPT.expand(3, -1), [PROMPT] * 2, separator=0),
            "one for each of 2 responses, got 3",
        ),
        (lambda m: self_cheat_scores(m.train(), PROMPT, [PROMPT], separator=0), r"call model.eval\(\)"),
        (lambda m: read_prompts(m, PROMPT[:0].unsqueeze(0)), r"prompts must be of one length, .* got shape \(1, 0\)"),
        (lambda m: sample_responses(m, PROMPT.unsqueeze(0), separator=0, max_new_tokens=0), "at least 1, got 0"),
        (lambda m: answer_or_abstain(m, PROMPT, 1.5, separator=0), r"beta must be in \(0, 1\), got 1.5"),
        (lambda m: answer_or_abstain(m, PROMPT, 0.1, separator=0, mode="top1"), "got none with mode top1"),
        (lambda m: answer_or_abstain(m, PROMPT, 0.1, separator=0, candidates=[PROMPT]), "got 1 with mode reject"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(model())
