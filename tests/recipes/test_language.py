import math
import sys
from pathlib import Path

import pytest
import torch

from aleator.cli import main
from aleator.data import DomainMixture
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.tracking import read_metrics
from aleator.language import ByteLM
from aleator.language.bytes_vocabulary import FIRST_BYTE
from aleator.random import Streams
from aleator.recipes.language import Language
from aleator.recipes.language import task as language_modelling
from aleator.recipes.language.models import language_model, weight_norms
from aleator.recipes.language.readers import Reading
from aleator.recipes.language.task import LanguageTask, Piece
from aleator.recipes.language.windows import TrainingWindows

QUIET = RunOptions(trackers=(), log_every=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, ...]:
    """Two small domains: one of which every byte can be known, and one of random letters, four times as long."""
    folder = tmp_path_factory.mktemp("texts")
    letters = torch.randint(97, 105, (8000,), generator=Streams(0).generator("letters"), dtype=torch.uint8)
    (folder / "known.txt").write_bytes(b"ABCDEFGH" * 250)
    (folder / "random.txt").write_bytes(letters.numpy().tobytes())
    return f"known={folder / 'known.txt'}", f"random={folder / 'random.txt'}"


WEIGHTINGS = ("sampling", "scalarization")


def tiny(files: tuple[str, ...], **options) -> Language:
    return Language(**{"files": files, "width": 16, "context": 16, "batch_size": 8, "steps": 30, **options})


def task(options: Language, seed: int = 0) -> LanguageTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return options.task(streams, make_accelerator())


def weights(of: LanguageTask):
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


SIZES = {"small": 19, "large": 203}  # bytes: 15 and 199 windows of a context of 4


def windows(temperature=1.0, sizes=SIZES, batch_size=12, steps=100, seed=0, **ranks) -> TrainingWindows:
    """Windows over domains that count upwards, each from a number of its own, so that a byte says where it was."""
    begins = dict(zip(sizes, (0, 30), strict=True))
    texts = {name: torch.arange(begins[name], begins[name] + n, dtype=torch.uint8) for name, n in sizes.items()}
    mixture = DomainMixture(sizes, temperature, steps)
    return TrainingWindows(texts, mixture, 4, batch_size, generator=Streams(seed).generator("data"), **ranks)


# --- which windows a step sees


@pytest.mark.parametrize("ranks", [2, 3])
def test_global_batches_are_the_same_for_any_number_of_ranks(ranks):
    shares = [iter(windows(5.0, num_replicas=ranks, rank=rank)) for rank in range(ranks)]
    for step, whole in zip(range(20), windows(5.0), strict=False):
        parts = [next(share) for share in shares]
        assert torch.equal(torch.stack([part.bytes for part in parts], 1).flatten(0, 1), whole.bytes)
        assert torch.equal(torch.stack([part.domains for part in parts], 1).flatten(), whole.domains)
        assert all(part.step == whole.step == step for part in parts)


def test_windows_lie_within_their_domain_and_are_consecutive_bytes():
    for batch in windows(5.0):
        assert torch.equal(batch.bytes, batch.bytes[:, :1] + torch.arange(5))
        assert torch.equal(batch.domains, (batch.bytes[:, 0] >= 30).long())
        assert all(int(batch.bytes[batch.domains == i].max()) < end for i, end in ((0, 19), (1, 233)))


def test_every_start_is_taken_once_before_one_returns():
    taken = torch.cat([batch.bytes[:, 0][batch.domains == 0] for batch in windows(5.0)])
    assert len(taken) > 60
    for epoch in taken[:60].split(15):
        assert epoch.sort().values.tolist() == list(range(15))


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 19 / 222), (1e9, 0.5)])
def test_domains_are_shown_in_proportion_to_a_power_of_their_bytes(temperature, share):
    built = windows(temperature)
    list(built)
    drawn = built.sampler.draws["small"]
    assert drawn == pytest.approx(1200 * share, abs=8)  # quotas are exact but for rounding
    # A window predicts four bytes.
    assert built.epochs["small"] == 4 * drawn / 19


def test_windows_go_on_in_the_middle_of_an_epoch_where_they_were_saved():
    whole, first = windows(5.0), windows(5.0)
    batches = list(whole)
    for _ in zip(range(37), first, strict=False):
        pass
    saved = first.state_dict()
    assert first.sampler.draws["large"] % 199 > 0
    assert first.sampler.draws["small"] % 15 > 0
    other = windows(5.0, seed=9)
    other.load_state_dict(saved)
    rest = list(other)
    assert len(rest) == 63
    assert all(torch.equal(a.bytes, b.bytes) and a.step == b.step for a, b in zip(batches[37:], rest, strict=True))


def test_batches_are_windows_of_the_training_bytes(files):
    built = task(tiny(files))
    texts = [Path(word.partition("=")[2]).read_bytes() for word in files]
    train = [text[: round(0.8 * len(text))] for text in texts]
    batch = next(built.train_batches())
    assert batch.bytes.shape == (8, 17)
    for window, domain in zip(batch.bytes.tolist(), batch.domains.tolist(), strict=True):
        assert bytes(window) in train[domain]


def test_a_domain_can_be_cut_to_its_first_bytes(files):
    built = task(tiny(files, domain_bytes=("random=40",)))
    assert dict(built.mixture.sizes) == {"known": 1600, "random": 40}
    whole = Path(files[1].partition("=")[2]).read_bytes()
    shown = [bytes(w) for batch in built.train_batches() for w in batch.bytes[batch.domains == 1].tolist()]
    assert shown
    assert all(window in whole[:40] for window in shown)


def test_several_data_sets_give_their_domains_to_one_run(mirror):
    chosen = Language(data=("ud-english-ewt", "udhr2"), domains=("en", "spa"), model="gru", width=8, eval_bytes=1000)
    built = task(chosen)
    assert built.names == ["en", "spa"]
    assert len(built.held_out["test"].windows) == 2 * 15


# --- in what proportion


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({}, 0.8, 0.8),
        ({"temperature": 2}, 2 / 3, 2 / 3),
        ({"mixture_schedule": "cooldown", "temperature": 2}, 2 / 3, 0.8),
        ({"mixture_schedule": "cooldown", "temperature": 1, "final_temperature": 2, "switch_at": 0.9}, 0.8, 2 / 3),
        ({"mixture_schedule": "steps", "temperature_steps": ("0=2", "0.5=1e9", "0.9=1")}, 2 / 3, 0.8),
        ({"mixture_schedule": "linear", "temperature": 2}, 2 / 3, 0.8),
        ({"mixture_schedule": "cosine", "temperature": 2}, 2 / 3, 0.8),
        ({"mixture_schedule": "auto-cooldown", "temperature": 2}, 2 / 3, 2 / 3),  # nothing was observed
        # 30 steps of 8 windows of 16 bytes: 3 840 bytes, of which 0.5 epochs of the small domain are 800.
        ({"mixture_schedule": "unimax", "max_epochs": 0.5}, 1 - 800 / 3840, 1 - 800 / 3840),
        ({"mixture_schedule": "order-matters", "low_resource": ("known",)}, 1, 0.8),
    ],
)
def test_schedules_by_their_names(files, options, first, last):
    mixture = task(tiny(files, **options)).mixture  # of 1 600 and 6 400 bytes
    assert [mixture.probabilities(step)[1] for step in (0, 29)] == pytest.approx([first, last], rel=1e-6)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_auto_cooldown_switches_when_validation_of_a_small_domain_turns(files, monkeypatch, weighting):
    options = tiny(files, mixture_schedule="auto-cooldown", patience=1, temperature=2, weighting=weighting)
    built = task(options)
    batches = built.train_batches()

    def read(piece):
        return Reading(torch.full((len(piece.windows), 16), next(values)))

    monkeypatch.setattr(built, "_read", read)
    for _ in range(4):
        next(batches)
    values = iter([2.0, 2.0])
    built.evaluate("validation")
    values = iter([3.0, 3.0])
    built.evaluate("test")  # which decides nothing
    assert built.mixture.schedule.switch_step is None
    next(batches)
    values = iter([2.5, 2.5])
    built.evaluate("validation")
    assert built.mixture.schedule.switch_step == 5
    again = task(options)
    again.load_state_dict(built.state_dict())
    assert again.mixture.schedule.switch_step == 5
    batch = next(again.train_batches())
    assert torch.equal(batch.bytes, next(batches).bytes)
    assert int(batch.domains.sum()) in (6, 7)  # of 8, in proportion to size
    assert built.mixture.scalarization_weights(batch.step).tolist() == pytest.approx([1, 1])


# --- weights on the loss


def test_weights_of_temperature_one_change_nothing(files):
    plain, weighted = (task(tiny(files, model="gru", precision="float64", weighting=w)) for w in WEIGHTINGS)
    for built in (plain, weighted):
        for _, batch in zip(range(3), built.train_batches(), strict=False):
            built.train_step(batch)
    assert torch.allclose(weights(plain), weights(weighted), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("normalize", ["batch", "weights"])
def test_scalarization_weighs_proportional_windows(files, normalize):
    options = {"weighting": "scalarization", "temperature": 2, "normalize": normalize}
    built = task(tiny(files, model="gru", precision="float64", **options))
    proportional = task(tiny(files, model="gru"))
    batch = next(built.train_batches())
    assert torch.equal(batch.bytes, next(proportional.train_batches()).bytes)
    nats = built._read(Piece(batch.bytes, batch.domains)).nats.mean(1)
    # p(2) = (1/3, 2/3) and p(1) = (1/5, 4/5).
    w = torch.tensor([5 / 3, 5 / 6], dtype=torch.float64)[batch.domains]
    expected = (w * nats).sum() / (8 if normalize == "batch" else w.sum())
    assert float(built.train_step(batch).metrics["loss"]) == pytest.approx(float(expected.detach()), rel=1e-12)


# --- the models

HOURGLASS = {"depth": 2, "d_model": 64, "n_heads": 4, "d_head": 16, "d_inner": 256}


def test_layers_of_the_hourglass_are_given_bytes_without_special_ids():
    with Streams(0).scope("init"):
        model = language_model("byte-lm", width=16, layers=1, heads=2, context=12).eval()
    text = torch.randint(256, (2, 12), generator=Streams(0).generator("text"))
    assert torch.equal(model(text), model.decoder(text + FIRST_BYTE)[..., FIRST_BYTE : FIRST_BYTE + 256])
    with pytest.raises(ValueError, match="model must be transformer or gru with a vocabulary of 300, got byte-lm"):
        language_model("byte-lm", width=16, layers=1, heads=2, context=12, vocabulary=300)


@pytest.mark.parametrize("name", ["transformer", "gru", "byte-lm"])
def test_scores_depend_on_no_byte_after_their_own(name):
    with Streams(0).scope("init"):
        model = language_model(name, width=16, layers=2, heads=2, context=12).double().eval()
    text = torch.randint(256, (2, 12), generator=Streams(0).generator("text"))
    changed = text.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 256
    before, after = model(text), model(changed)
    assert before.shape == (2, 12, 256)
    assert torch.allclose(before[:, :7], after[:, :7], rtol=1e-6, atol=1e-9)
    assert not torch.allclose(before[:, 7:], after[:, 7:], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Two embeddings, three gains of RMSNorm a block and one at the end, and no biases.
        ("transformer", 2 * 256 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 168 + 2 * 64) + 64),
        ("gru", 256 * 64 + 2 * (6 * 64 * 64 + 6 * 64) + 65 * 256),
        ("byte-lm", sum(p.numel() for p in ByteLM(259, **HOURGLASS).parameters())),
    ],
)
def test_models_have_the_size_they_should_have(name, parameters):
    with Streams(0).scope("init"):
        model = language_model(name, width=64, layers=2, heads=4, context=64)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_weight_norms_are_those_of_the_singular_values():
    with Streams(0).scope("init"):
        model = torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.Linear(9, 4, bias=False)).double()
    frobenius, largest = weight_norms(model)
    assert frobenius == pytest.approx(float(torch.cat([p.flatten() for p in model.parameters()]).detach().norm()))
    expected = max(float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in model)
    assert largest == pytest.approx(expected, rel=1e-12)


# --- evaluation


def test_a_model_that_knows_nothing_needs_eight_bits_for_a_byte(files):
    built = task(tiny(files, model="gru"))
    torch.nn.init.zeros_(built.model.head.weight)
    torch.nn.init.zeros_(built.model.head.bias)
    measured = built.evaluate("test")
    bits = [measured[name] for name in ("bits_per_byte", "bits_per_byte/known", "bits_per_byte/random")]
    assert bits == pytest.approx([8, 8, 8], rel=1e-7)


def test_bits_per_byte_are_the_mean_over_windows_that_do_not_overlap(files, monkeypatch):
    built = task(tiny(files, model="gru", precision="float64"))
    text = Path(files[0].partition("=")[2]).read_bytes()
    held_out = torch.tensor(list(text[-200:]))  # the last tenth of 2000 bytes: twelve windows of 16 bytes
    nats = [
        torch.nn.functional.cross_entropy(built.model(held_out[None, i : i + 16])[0], held_out[i + 1 : i + 17])
        for i in range(0, 12 * 16, 16)
    ]
    expected = float(torch.stack(nats).mean().detach()) / math.log(2)
    measured = built.evaluate("test")
    assert measured["bits_per_byte/known"] == pytest.approx(expected, rel=1e-12)
    # Domains count by their bytes: 12 windows of 200 bytes and 49 of 800.
    of = [measured["bits_per_byte/known"], measured["bits_per_byte/random"]]
    assert measured["bits_per_byte"] == pytest.approx((12 * of[0] + 49 * of[1]) / 61, rel=1e-12)
    monkeypatch.setattr(language_modelling, "EVALUATION_BYTES", 5 * 16)
    assert built.evaluate("test") == pytest.approx(measured, rel=1e-12)


def test_evaluation_reads_no_more_than_it_should(files):
    assert len(task(tiny(files, eval_bytes=100)).held_out["validation"].windows) == 2 * 6


# --- options that change nothing else, and what a step does


def test_variants_of_one_seed_share_initial_weights_and_windows(files):
    tasks = [task(tiny(files, **o)) for o in ({}, {"optimizer": "spectra-adamw"}, {"optimizer": "signum", "lr": 1e-3})]
    batches = [[next(stream) for _ in range(3)] for stream in (t.train_batches() for t in tasks)]
    for other, seen in zip(tasks[1:], batches[1:], strict=True):
        assert torch.equal(weights(tasks[0]), weights(other))
        assert all(torch.equal(a.bytes, b.bytes) for a, b in zip(batches[0], seen, strict=True))
    assert not torch.equal(weights(tasks[0]), weights(task(tiny(files), seed=1)))


@pytest.mark.parametrize("normalize", [None, "batch", "weights"])
def test_accumulated_step_equals_the_whole_step(files, normalize):
    mixed = {"temperature": 2, "normalize": normalize, "weighting": "scalarization" if normalize else "sampling"}
    one, cut = (task(tiny(files, model="gru", precision="float64", accumulate=n, **mixed)) for n in (1, 3))
    for built in (one, cut):
        batches = built.train_batches()
        for _ in range(5):
            built.train_step(next(batches))
    assert torch.allclose(weights(one), weights(cut), rtol=1e-9, atol=1e-12)


def test_pieces_of_an_accumulated_step_hold_all_domains(files, monkeypatch):
    built = task(tiny(files, model="gru", accumulate=2, temperature=1e9))
    seen = []

    def loss(piece, weights, shares):
        seen.append(piece.domains)
        return built._read(piece).nats.mean(), None

    monkeypatch.setattr(built, "_loss", loss)
    built.train_step(next(built.train_batches()))
    assert [piece.bincount().tolist() for piece in seen] == [[2, 2], [2, 2]]


# --- the recipe end to end


@pytest.mark.parametrize("model", ["transformer", "gru"])
def test_recipe_learns_what_can_be_known_and_no_more(files, tmp_path, model):
    found = run(tiny(files, model=model, layers=1, steps=300, lr=0.03), tmp_path / "run", QUIET, name="language")[
        "test"
    ]
    # The next letter of the alphabet is certain; eight random letters have three bits each.
    assert found["bits_per_byte/known"] < 0.5
    assert 3 <= found["bits_per_byte/random"] < 3.5
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"loss", "lr", "gradient_norm"} <= rows[0]["metrics"].keys()
    assert rows[0]["metrics"]["temperature"] == 1
    # Quotas: 300 steps of 8 windows of 16 bytes, in proportion, so that both are seen as often.
    assert [found[f"epochs/{name}"] for name in ("known", "random")] == pytest.approx([4.8, 4.8], abs=0.1)


def test_one_domain_alone_has_one_figure_and_other_windows(files, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["run", "language", "--files", *files, "--domains", "known", "--width", "16", "--context", "16"]
    assert main([*words, "--steps", "20", "--model", "gru", "--out", str(out), "--trackers"]) == 0
    assert set(read_json(out / "result.json")["test"]) == {"bits_per_byte", "weight_norm", "spectral_norm"}
    assert "bits_per_byte" in capsys.readouterr().out
    assert (out / "report.html").exists()


def test_tiny_shakespeare_is_the_default(mirror):
    built = task(Language(model="gru", width=8, eval_bytes=1000))
    assert built.names == ["shakespeare"]
    assert bytes(built.sampler.bytes[:13].tolist()) == b"First Citizen"


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--domains", "knwon"), "'knwon'"),
        (("--context", "200"), "context must be below the 200 validation bytes of domain 'known', got 200"),
        (("--eval-bytes", "10"), "context must be below the 10 validation bytes of domain 'known', got 16"),
        (("--data", "wikitext2"), "data cannot be used with files, got wikitext2"),
        (("--width", "20"), "width must be a multiple of twice the heads, 8, got 20"),
        (("--steps", "0"), "steps must be positive and finite, got 0"),
        (("--domains", "known", "known"), "domains must have distinct names, got 'known' 2 times"),
        (("--accumulate", "9"), "accumulate must be at most batch_size, 8, got 9"),
        (
            ("--optimizer", "spectra"),
            "--optimizer must be one of sgd, proximal-sgd, sgld",
        ),
        (("--optimizer", "adamw", "--clip", "1"), "clip cannot be used with optimizer adamw, got 1.0"),
        (("--domain-bytes", "known"), "domain_bytes must be written NAME=BYTES, got 'known'"),
        (("--domain-bytes", "known=0"), "domain_bytes must be written NAME=BYTES, got 'known=0'"),
        (("--domain-bytes", "x=99"), "domain_bytes must name one of the domains known, random, got 'x'"),
        (("--domain-bytes", "known=9999"), "domain_bytes must be at most 1600 for 'known', got 9999"),
        (("--domain-bytes", "known=16"), "context must be below the 16 training bytes of domain 'known', got 16"),
        (("--temperature", "-1"), "temperature must be positive and finite, got -1"),
        (("--mixture-schedule", "steps"), "temperature_steps must be given with mixture_schedule steps, got None"),
        (
            ("--mixture-schedule", "steps", "--temperature-steps", "0=1", "half=2"),
            "temperature_steps must be written FRACTION=TEMPERATURE, got 'half=2'",
        ),
        (("--mixture-schedule", "steps", "--temperature-steps", "0.5=1"), "steps must begin with fraction 0 and rise"),
        (("--switch-at", "0.3"), "switch_at cannot be used with mixture_schedule constant, got 0.3"),
        (("--mixture-schedule", "cooldown", "--switch-at", "3"), "switch_at must be in [0, 1], got 3"),
        (
            ("--mixture-schedule", "unimax", "--max-epochs", "4", "--temperature", "5"),
            "temperature cannot be used with mixture_schedule unimax, got 5.0",
        ),
        (
            ("--mixture-schedule", "order-matters", "--low-resource", "x"),
            "low_resource must be among the domains known, random, got 'x'",
        ),
        (("--normalize", "batch"), "normalize cannot be used with weighting sampling, got batch"),
        (("--domains", "known", "--temperature", "5"), "temperature cannot be used with one domain, got 5"),
    ],
)
def test_bad_options_are_named(files, words, message, tmp_path, capsys):
    common = ("--files", *files, "--width", "16", "--context", "16", "--batch-size", "8", "--out", str(tmp_path / "o"))
    assert main(["run", "language", *common, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.plain
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a.txt",), "files must be written NAME=PATH, got 'a.txt'"),
        (("=a.txt",), "files must be written NAME=PATH, got '=a.txt'"),
        (("en=a.txt", "en=b.txt"), "files must have distinct names, got 'en' 2 times"),
    ],
)
def test_files_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Language(files=given)


@pytest.mark.plain
def test_without_transformers_the_extra_is_named_and_the_recurrent_model_works(files, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = ["run", "language", "--files", *files, "--width", "16", "--context", "16", "--steps", "2", "--trackers"]
    assert main([*words, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert error == "aleator: model transformer needs the extra 'text': pip install 'aleator[text]'\n"
    assert main([*words, "--model", "gru", "--out", str(tmp_path / "o")]) == 0
