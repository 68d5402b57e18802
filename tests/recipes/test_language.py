import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.experiment.tracking import read_metrics
from aleator.random import Streams
from aleator.recipes import language_modelling
from aleator.recipes.language import Language
from aleator.recipes.language_modelling import LanguageTask
from aleator.recipes.language_models import language_model, weight_norms
from aleator.recipes.windows import ProportionalWindows

QUIET = RunOptions(trackers=(), log_every=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[str, ...]:
    """Two small domains: one of which every byte can be known, and one of random letters, four times as long."""
    folder = tmp_path_factory.mktemp("texts")
    letters = torch.randint(97, 105, (8000,), generator=Streams(0).generator("letters"), dtype=torch.uint8)
    (folder / "known.txt").write_bytes(b"ABCDEFGH" * 250)
    (folder / "random.txt").write_bytes(letters.numpy().tobytes())
    return f"known={folder / 'known.txt'}", f"random={folder / 'random.txt'}"


def tiny(files: tuple[str, ...], **options) -> Language:
    return Language(**{"files": files, "width": 16, "context": 16, "batch_size": 8, "steps": 30, **options})


def task(options: Language, seed: int = 0) -> LanguageTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return options.task(streams, make_accelerator())


def weights(of: LanguageTask):
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


def windows(sizes, batch_size=12, seed=0, **ranks) -> ProportionalWindows:
    return ProportionalWindows(sizes, batch_size, generator=Streams(seed).generator("data"), **ranks)


# --- which windows a step sees


@pytest.mark.parametrize("ranks", [2, 3])
def test_global_batches_are_the_same_for_any_number_of_ranks(ranks):
    whole = windows([50, 7, 300])
    shares = [windows([50, 7, 300], num_replicas=ranks, rank=rank) for rank in range(ranks)]
    for _ in range(5):
        domains, starts = whole.take()
        parts = [share.take() for share in shares]
        assert torch.equal(torch.stack([part[0] for part in parts], 1).flatten(), domains)
        assert torch.equal(torch.stack([part[1] for part in parts], 1).flatten(), starts)


def test_every_window_of_the_union_is_equally_likely():
    sampler = windows([50, 7, 43], batch_size=100_000)
    domains, starts = sampler.take()
    counts = torch.bincount(torch.tensor([0, 50, 57])[domains] + starts, minlength=100)
    assert all(int(starts[domains == d].max()) < size for d, size in enumerate([50, 7, 43]))
    # Chi-square with 99 degrees of freedom: above 161 with probability 1e-4 for a fair draw.
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 161


def test_windows_go_on_where_they_were_saved():
    sampler = windows([50, 7])
    for _ in range(3):
        sampler.take()
    saved = sampler.state_dict()
    ahead = [sampler.take() for _ in range(3)]
    other = windows([50, 7], seed=9)
    other.load_state_dict(saved)
    again = [other.take() for _ in range(3)]
    assert all(torch.equal(a, b) for one, two in zip(ahead, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(ahead[0][1], ahead[1][1])


def test_batches_are_windows_of_the_training_bytes(files):
    built = task(tiny(files))
    texts = [Path(word.partition("=")[2]).read_bytes() for word in files]
    train = [text[: round(0.8 * len(text))] for text in texts]
    batch = next(built.train_batches())
    assert batch.shape == (8, 17)
    assert all(any(bytes(window.tolist()) in text for text in train) for window in batch)


# --- the models


@pytest.mark.parametrize("name", ["transformer", "gru"])
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
        assert all(torch.equal(a, b) for a, b in zip(batches[0], seen, strict=True))
    assert not torch.equal(weights(tasks[0]), weights(task(tiny(files), seed=1)))


def test_accumulated_step_equals_the_whole_step(files):
    one, cut = (task(tiny(files, model="gru", precision="float64", accumulate=n)) for n in (1, 3))
    for built in (one, cut):
        batches = built.train_batches()
        for _ in range(5):
            built.train_step(next(batches))
    assert torch.allclose(weights(one), weights(cut), rtol=1e-9, atol=1e-12)


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


def test_one_domain_alone_has_one_figure_and_other_windows(files, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["run", "language", "--files", *files, "--domains", "known", "--width", "16", "--context", "16"]
    assert main([*words, "--steps", "20", "--model", "gru", "--out", str(out), "--trackers"]) == 0
    assert set(read_json(out / "result.json")["test"]) == {"bits_per_byte", "weight_norm", "spectral_norm"}
    assert "bits_per_byte" in capsys.readouterr().out
    assert (out / "report.html").exists()


def test_interrupted_and_resumed_run_is_bit_identical(files, tmp_path, monkeypatch):
    def command(out: str) -> list[str]:
        small = ("--width", "16", "--context", "16", "--steps", "12", "--optimizer", "spectra-adamw", "--clip", "1")
        return ["run", "language", "--files", *files, *small, "--out", str(tmp_path / out)]

    assert main(command("whole")) == 0
    step = LanguageTask.train_step

    def interrupted(self, batch):
        if self.schedule.last_epoch == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageTask, "train_step", interrupted)
        assert main(command("cut")) == 130
    assert main([*command("cut"), "--resume"]) == 0
    results = [read_json(tmp_path / name / "result.json") for name in ("whole", "cut")]
    assert results[0]["test"] == results[1]["test"]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


PROGRAM = """
import json, sys
from pathlib import Path
from aleator.experiment import RunOptions, run
from aleator.recipes.language import Language

for name, options in json.loads(sys.argv[1]).items():
    out = Path(sys.argv[2]) / name
    run(Language(**options), out, RunOptions(trackers=(), log_every=1), name="language")
"""


def test_two_processes_compute_what_one_does(files, tmp_path):
    common = {"files": files, "width": 16, "context": 16, "batch_size": 8, "steps": 6, "precision": "float64"}
    recipes = {"gru": {**common, "model": "gru"}, "sharded": {**common, "shard": True, "optimizer": "spectra-adamw"}}
    (tmp_path / "program.py").write_text(PROGRAM)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "program.py")]
    done = subprocess.run(
        [sys.executable, *launch, json.dumps(recipes), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, options in recipes.items():
        one = run(Language(**options), tmp_path / "one" / name, QUIET, name="language")
        two = read_json(tmp_path / "two" / name / "result.json")
        # LLaMA's normalisation is in float32, whatever the model is in.
        tolerance = 1e-10 if name == "gru" else 1e-6
        assert two["test"] == pytest.approx(one["test"], rel=tolerance)
        logs = [read_metrics(tmp_path / n / name / "metrics.jsonl") for n in ("one", "two")]
        for first, second in zip(*logs, strict=True):
            assert first["metrics"] == pytest.approx(second["metrics"], rel=tolerance)


def test_tiny_shakespeare_is_the_default(mirror):
    built = task(Language(model="gru", width=8, eval_bytes=1000))
    assert built.names == ["tinyshakespeare"]
    assert bytes(built.train[:13].tolist()) == b"First Citizen"


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--domains", "knwon"), "'knwon'"),
        (("--context", "200"), "context must be below the 200 validation bytes of domain 'known', got 200"),
        (("--eval-bytes", "10"), "context must be below the 10 validation bytes of domain 'known', got 16"),
        (("--data", "wikitext2"), "data must be left out where files are given, got 'wikitext2'"),
        (("--width", "20"), "width must be a multiple of twice the heads, 8, got 20"),
        (("--steps", "0"), "steps must be positive and finite, got 0"),
        (("--domains", "known", "known"), "domains must have distinct names, got 'known' 2 times"),
        (("--accumulate", "9"), "accumulate must be at most batch_size, 8, got 9"),
        (("--optimizer", "spectra"), "--optimizer must be one of sgd, adamw, lamb, lars, signum, spectra-adamw"),
        (("--optimizer", "adamw", "--clip", "1"), "clip must be left out with optimizer adamw, got 1.0"),
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
        (("=a.txt",), "files must be written NAME=PATH, got 'a.txt'"),
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
