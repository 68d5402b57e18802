import math
import sys

import pytest
import torch
from torch.nn import functional as F

from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.language import CollapseMonitor
from aleator.random import Streams
from aleator.recipes.language import Language
from aleator.recipes.language import task as language_modelling
from aleator.recipes.language.readers import byte_pairs, script_of
from aleator.recipes.language.task import LanguageTask, Piece

QUIET = RunOptions(trackers=(), log_every=1)
TOKENIZATIONS = ("bytes", "bpe", "dtp", "magnet")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, ...]:
    """Two domains of a few words each in random order, in two scripts."""
    folder = tmp_path_factory.mktemp("texts")
    words = {"en": ["all", "human", "beings", "are", "born", "free"], "ru": ["все", "люди", "рождаются", "свободными"]}
    for name, known in words.items():
        order = torch.randint(len(known), (900,), generator=Streams(0).generator(name))
        (folder / f"{name}.txt").write_text(" ".join(known[i] for i in order.tolist()), encoding="utf-8")
    return tuple(f"{name}={folder / name}.txt" for name in words)


def tiny(files: tuple[str, ...], **options) -> Language:
    small = {"files": files, "width": 16, "context": 24, "batch_size": 8, "steps": 12, "eval_bytes": 500}
    heads = None if options.get("model") == "gru" else 2
    return Language(**{**small, "heads": heads, "temperature": 1e9, **options})


def task(options: Language, seed: int = 0) -> LanguageTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return options.task(streams, make_accelerator())


def as_tensor(text: str):
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


# --- the same bytes, whatever is read


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_all_see_the_same_windows_and_predict_the_same_held_out_bytes(files, tokenization):
    plain, other = task(tiny(files)), task(tiny(files, tokenization=tokenization))
    assert torch.equal(next(plain.train_batches()).bytes, next(other.train_batches()).bytes)
    assert torch.equal(plain.held_out["test"].windows, other.held_out["test"].windows)
    assert other.evaluate("test").keys() >= {"bits_per_byte", "bits_per_byte/en", "bits_per_byte/ru"}


def test_bits_of_tokens_are_those_of_all_bytes_but_the_first(files):
    built = task(tiny(files, tokenization="bpe", vocabulary=300))
    windows, domains = built.held_out["test"].windows[:5].long(), torch.zeros(5, dtype=torch.int64)
    nats = built._read(Piece(windows, domains)).nats
    assert nats.shape == (5, 24)
    tokenizer, model = built.reader.tokenizer, built.model
    for row, window in zip(nats, windows, strict=True):
        text = bytes(window.tolist()).decode("latin-1")
        ids = [tokenizer.token_to_id(text[0]), *tokenizer.encode(text[1:]).ids]
        assert tokenizer.id_to_token(ids[0]) + "".join(map(tokenizer.id_to_token, ids[1:])) == text
        scores = model(torch.tensor([ids[:-1]]))[0]
        expected = F.cross_entropy(scores, torch.tensor(ids[1:]), reduction="sum")
        assert float(row.sum().detach()) == pytest.approx(float(expected.detach()))
        assert int((row > 0).sum()) == len(ids) - 1


def test_tokens_without_knowledge_need_the_logarithm_of_their_number(files):
    built = task(tiny(files, tokenization="bpe", vocabulary=300, model="gru", domains=("en",), temperature=None))
    torch.nn.init.zeros_(built.model.head.weight)
    torch.nn.init.zeros_(built.model.head.bias)
    windows = built.held_out["test"].windows
    tokens = sum(built.reader.count(window[1:]) for window in windows)
    bits = tokens * math.log2(built.reader.tokenizer.get_vocab_size()) / (24 * len(windows))
    assert built.evaluate("test")["bits_per_byte"] == pytest.approx(bits, rel=1e-6)


def test_byte_pairs_are_the_same_every_time_and_lose_nothing():
    texts = {"en": as_tensor("free and equal in dignity\n" * 20), "hi": as_tensor("सभी मनुष्यों को गौरव " * 20)}
    one, other = byte_pairs(texts, 300), byte_pairs(texts, 300)
    assert one.get_vocab_size() == 300
    assert one.to_str() == other.to_str()
    strange = bytes(range(256)).decode("latin-1")
    assert "".join(one.encode(strange).tokens) == strange
    # Characters of Devanagari have bytes 0x85 and 0xA0, which are blanks in Latin-1 and must not part words here.
    assert len(byte_pairs({"x": as_tensor("अठअठअठ " * 50)}, 400).encode("अठअठअठ ".encode().decode("latin-1")).ids) == 2


# --- scripts and rates


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("All human beings", "latin"),
        ("Все люди рождаются", "cyrillic"),
        ("सभी मनुष्यों", "indic"),
        ("সমস্ত মানুষ", "indic"),
        ("يولد جميع", "arabic"),
        ("1948 — 10", None),
    ],
)
def test_scripts_are_found_in_letters(text, script):
    assert script_of(as_tensor(text)) == script
    assert script_of(as_tensor(text)[:-1]) == script  # a character that is cut is no letter


def test_a_predictor_for_each_script_and_one_for_all(files):
    magnet, dtp = task(tiny(files, tokenization="magnet")), task(tiny(files, tokenization="dtp", boundary_rate=0.3))
    assert magnet.reader.groups == tuple(magnet.model.predictors) == ("latin", "cyrillic")
    assert magnet.reader.rates.tolist() == [0.2, 0.1]
    assert dtp.reader.groups == tuple(dtp.model.predictors) == ("shared",)
    assert dtp.reader.rates.tolist() == [0.3]
    given = {"scripts": ("ru=latin",), "boundary_rates": ("latin=0.4",)}
    together = task(tiny(files, tokenization="magnet", **given))
    assert together.reader.groups == ("latin",)
    assert together.reader.rates.tolist() == [0.4]


# --- the loss


def test_boundary_loss_is_that_of_the_model_and_weighs_predictors_evenly(files):
    built = task(tiny(files, tokenization="magnet", precision="float64", temperature=1))
    batch = next(built.train_batches())
    assert 0 < int(batch.domains.sum()) != 4  # the two scripts have different numbers of rows
    noise = torch.rand(8, 25, generator=Streams(1).generator("noise"), dtype=torch.float64)
    labels = [built.reader.groups[d] for d in batch.domains.tolist()]
    loss, parts = built.model.loss(batch.bytes + 3, labels, noise=noise)
    ours, drawn = built._loss(Piece(batch.bytes, batch.domains, noise), None, built._shares(batch))
    assert {name: float(rate) for name, rate in drawn.rates.items()} == pytest.approx(
        {name: float(rate) for name, rate in parts.rate.items()}
    )
    assert float(ours.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)  # the model's own is in float32
    assert float(drawn.penalty) / 8 == pytest.approx(float((loss - parts.lm).detach()), rel=1e-4)


def test_bits_per_byte_in_training_are_without_the_boundary_loss(files):
    built = task(tiny(files, tokenization="magnet"))
    found = built.train_step(next(built.train_batches())).metrics
    assert float(found["boundary_loss"]) > 0
    assert float(found["bits_per_byte"]) == pytest.approx(
        float(found["loss"] - found["boundary_loss"]) / math.log(2), rel=1e-6
    )


@pytest.mark.parametrize("weighting", ["sampling", "scalarization"])
def test_accumulated_step_equals_the_whole_step(files, weighting):
    common = {"tokenization": "magnet", "precision": "float64", "temperature": 2, "weighting": weighting}
    one, cut = (task(tiny(files, accumulate=n, **common)) for n in (1, 3))
    for built in (one, cut):
        for _, batch in zip(range(3), built.train_batches(), strict=False):
            found = built.train_step(batch).metrics
    for mine, other in zip(one.model.parameters(), cut.model.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-8)
    assert found["boundary_loss"] > 0


def test_a_script_without_boundaries_is_reported_by_name_while_training(files, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(language_modelling, "CollapseMonitor", lambda: CollapseMonitor(steps=3))
    original = LanguageTask.__init__

    def without_cyrillic(self, *arguments):
        original(self, *arguments)
        with torch.no_grad():
            self.model.predictor("cyrillic").output.bias.fill_(-50)

    monkeypatch.setattr(LanguageTask, "__init__", without_cyrillic)
    run(tiny(files, tokenization="magnet", lr=1e-4), tmp_path / "run", QUIET, name="language")
    assert [record.getMessage() for record in caplog.records if record.name == "aleator.language.collapse"] == [
        "script cyrillic had no boundary in 3 steps: its predictor has collapsed"
    ]


# --- evaluation


def test_evaluation_draws_the_same_boundaries_every_time(files, monkeypatch):
    built = task(tiny(files, tokenization="magnet"))
    found = built.evaluate("test")
    assert built.evaluate("test") == found
    monkeypatch.setattr(language_modelling, "EVALUATION_BYTES", 3 * 24)
    assert built.evaluate("test") == pytest.approx(found, rel=1e-5)
    assert task(tiny(files, tokenization="magnet"), seed=1).evaluate("test") != found


@pytest.mark.parametrize("tokenization", TOKENIZATIONS)
def test_segments_of_parallel_text(mirror, tokenization):
    built = task(
        Language(data=("tico19",), domains=("en", "ru"), tokenization=tokenization, width=16, heads=2, eval_bytes=2000)
    )
    found, (en, ru) = built.evaluate("test"), (46271, 96502)  # bytes of the whole test parts
    segments = [found["segments/en"], found["segments/ru"]]
    assert found["segment_ratio"] == pytest.approx(max(segments) / min(segments))
    mean = sum(segments) / 2
    assert found["segment_variation"] == pytest.approx(abs(segments[0] - mean) / mean)
    if tokenization == "bytes":
        assert segments == [en, ru]
    elif tokenization == "bpe":
        assert segments[0] < en / 2
    else:
        # Predictors begin at their rates, about which untrained probabilities scatter.
        rates = (0.2, 0.1) if tokenization == "magnet" else (0.2, 0.2)
        assert segments == pytest.approx([rates[0] * en, rates[1] * ru], rel=0.1)
    rates = {name for name in found if name.startswith("boundary_rate")}
    assert rates == {"dtp": {"boundary_rate/shared"}, "magnet": {"boundary_rate/latin", "boundary_rate/cyrillic"}}.get(
        tokenization, set()
    )


def test_texts_that_are_not_parallel_have_no_ratio(files):
    found = task(tiny(files, tokenization="magnet")).evaluate("test")
    assert not any(name.startswith("segment") for name in found)
    assert "boundary_rate/latin" in found


# --- the recipe end to end


def test_boundary_rates_come_to_their_targets_from_elsewhere(files):
    rates = {"latin": 0.4, "cyrillic": 0.2}  # 10 and 5 of a window's 25 positions
    options = {"boundary_rates": tuple(f"{name}={rate}" for name, rate in rates.items()), "steps": 100}
    built = task(tiny(files, tokenization="magnet", lr=0.005, schedule="constant", **options))
    for name in rates:
        torch.nn.init.constant_(built.model.predictor(name).output.bias, 0)
    before = built.evaluate("test")
    assert [before[f"boundary_rate/{name}"] for name in rates] == pytest.approx([0.5, 0.5], abs=0.05)
    for batch in built.train_batches():
        built.train_step(batch)
    found = built.evaluate("test")
    assert [found[f"boundary_rate/{name}"] for name in rates] == pytest.approx(list(rates.values()), rel=0.15)
    assert found["bits_per_byte"] < 4


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bytes", "--vocabulary", "300"), "vocabulary cannot be used with tokenization bytes, got 300"),
        (("bpe", "--boundary-rate", "0.1"), "boundary_rate cannot be used with tokenization bpe, got 0.1"),
        (("bpe", "--vocabulary", "10"), "vocabulary must be at least 256, the bytes, got 10"),
        (
            ("dtp", "--boundary-rates", "latin=0.1"),
            "boundary_rates cannot be used with tokenization dtp, got latin=0.1",
        ),
        (("dtp", "--boundary-rate", "1"), "boundary_rate must be in (0, 1), got 1.0"),
        (("dtp", "--scripts", "en=latin"), "scripts cannot be used with tokenization dtp, got en=latin"),
        (("dtp", "--model", "gru"), "model cannot be used with tokenization dtp, got gru"),
        (("magnet", "--layers", "4"), "layers cannot be used with tokenization magnet, got 4"),
        (("magnet", "--hourglass-layers", "1", "-1", "1"), "hourglass_layers must not be negative, got 1 -1 1"),
        (("magnet", "--boundary-rates", "latin=0"), "boundary_rates must be in (0, 1), got latin=0"),
        (("magnet", "--boundary-rates", "latin=x"), "boundary_rates must be written SCRIPT=RATE, got 'latin=x'"),
        (("magnet", "--boundary-rates", "latin"), "boundary_rates must be written SCRIPT=RATE, got 'latin'"),
        (
            ("magnet", "--boundary-rates", "latn=0.2"),
            "boundary_rates must name one of the scripts latin, cyrillic, got 'latn'",
        ),
        (("magnet", "--scripts", "fr=latin"), "scripts must name one of the domains en, ru, got 'fr'"),
        (
            ("magnet", "--scripts", "ru=arabic"),
            "boundary_rates must give a rate for arabic, the script of 'ru', got none",
        ),
    ],
)
def test_bad_options_are_named(files, words, message, tmp_path, capsys):
    common = ("--files", *files, "--width", "16", "--context", "16", "--out", str(tmp_path / "o"), "--tokenization")
    assert main(["run", "language", *common, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.plain
def test_a_text_without_letters_needs_the_name_of_its_script(tmp_path):
    path = tmp_path / "digits.txt"
    path.write_text("12345 67890 " * 200)
    options = {"files": (f"digits={path}",), "tokenization": "magnet", "context": 16}
    with pytest.raises(ValueError, match="scripts must name the script of 'digits', in which there is no letter"):
        task(Language(**options))
    assert task(Language(**options, scripts=("digits=latin",))).reader.groups == ("latin",)


@pytest.mark.plain
def test_without_tokenizers_the_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"tokenization bpe needs the extra 'text': pip install 'aleator\[text\]'"):
        task(tiny(files, tokenization="bpe"))
