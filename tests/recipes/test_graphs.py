import logging
from dataclasses import replace

import pytest
import torch

from aleator import load_run
from aleator.cli import main
from aleator.data import load
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import read_json
from aleator.graphs import node_flags
from aleator.random import Streams
from aleator.recipes.graphs import Graphs
from aleator.recipes.graphs.settings import PUBLISHED
from aleator.recipes.graphs.task import GenerationTask, generated_at_a_time

QUIET = RunOptions(trackers=(), log_every=1)
FEW = {"samples": 6, "validation_samples": 2, "sampling_steps": 5}
FEW_WORDS = ("--samples", "6", "--validation-samples", "2", "--sampling-steps", "5")

pytestmark = pytest.mark.usefixtures("mirror")


def task(seed: int = 0, **options) -> GenerationTask:
    streams = Streams(seed)
    with streams.scope("init"):
        return Graphs(**options).task(streams, make_accelerator())


def losses(built: GenerationTask, steps: int) -> list[float]:
    batches = built.train_batches()
    return [float(built.train_step(next(batches)).metrics["loss_adj"]) for _ in range(steps)]


# --- what is built


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        ("ego-small", (44_093, 135_713)),
        ("community-small", (72_434, 134_369)),
        ("qm9", (8_564, 23_825)),
    ],
)
def test_published_settings_have_the_published_networks(data, parameters):
    built = task(data=data, settings="published", train_size=8)
    sizes = (sum(p.numel() for p in net.parameters()) for net in (built.model.net_x, built.model.net_a))
    assert tuple(sizes) == parameters


def test_reduced_settings_have_the_networks_of_the_notes():
    built = task()
    sizes = (sum(p.numel() for p in net.parameters()) for net in (built.model.net_x, built.model.net_a))
    assert tuple(sizes) == (12_050, 10_873)
    assert built.batch_size == 80
    assert built.budget.total == 600


def test_published_steps_are_the_epochs_of_the_paper():
    assert task(settings="published").budget.total == 5000  # 80 graphs are one batch
    ego = task(data="ego-small", settings="published")
    assert ego.budget.total == 10_000  # 160 graphs are a batch of 128 and a short one
    batches = ego.train_batches()
    assert [len(next(batches)[0]) for _ in range(4)] == [128, 32, 128, 32]
    qm9 = Graphs(data="qm9", settings="published").chosen
    assert (qm9.epochs, qm9.batch_size, qm9.solver) == (300, 1024, "ancestral-langevin")


def test_options_take_the_place_of_settings_that_they_name():
    chosen = Graphs(settings="published", solver="s4", snr=0.3, average_weights=True).chosen
    assert (chosen.solver, chosen.snr, chosen.average_weights) == ("s4", 0.3, True)
    assert chosen.hidden == PUBLISHED["community-small"].hidden


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, [1.0, 0.5]),
        ({"settings": "published"}, [1.0, 0.999]),
        ({"settings": "published", "schedule": "constant"}, [1.0, 1.0]),
    ],
    ids=["reduced", "published", "given"],
)
def test_the_learning_rate_falls_as_the_settings_say(options, rates):
    built = task(**options, steps=2, train_size=2)
    batches, found = built.train_batches(), []
    for _ in rates:
        found.append(built.steps[0].optimizer.param_groups[0]["lr"] / built.settings.lr)
        built.train_step(next(batches))
    assert found == pytest.approx(rates)


# --- training and generating


def test_networks_learn_communities():
    built = task(steps=60)
    before = int(built.average.n_averaged)
    found = losses(built, 60)
    assert sum(found[-5:]) < 0.75 * sum(found[:5])
    assert built.average.n_averaged == before + 60


def test_independent_networks_do_not_see_each_other():
    built = task(coupling="independent")
    x, adj, mask = (tensor[:4] for tensor in built.train)
    t = torch.full((4,), 0.5)
    built.model.eval()
    score_x, score_a = built.model.scores(x, adj, mask, t)
    others_x, others_a = built.model.scores(x.flip(0) * mask.unsqueeze(-1), adj, mask, t)
    assert torch.equal(score_a, others_a)
    assert not torch.equal(score_x, others_x)
    assert torch.equal(score_x, built.model.scores(x, torch.zeros_like(adj), mask, t)[0])


def test_random_graphs_have_nodes_and_edges_of_training_graphs():
    built = task(model="random", samples=300)
    made = built._generated(300)
    seen = {(int(m.sum()), int(a.sum() / 2)) for a, m in zip(built.train.adj, built.train.mask, strict=True)}
    found = {(int(m.sum()), int(a.sum() / 2)) for a, m in zip(made.adj, made.mask, strict=True)}
    assert found <= seen
    assert len(found) > 5
    assert torch.equal(made.adj, made.adj.mT)
    assert not made.adj.diagonal(dim1=1, dim2=2).any()
    assert not (node_flags(made.adj) & ~made.mask).any()


def test_an_evaluation_generates_the_same_graphs_again_and_trains_nothing():
    built = task(**FEW)
    before = [parameter.clone() for parameter in built.model.parameters()]
    assert built.evaluate("test") == built.evaluate("test")
    assert all(torch.equal(a, b) for a, b in zip(before, built.model.parameters(), strict=True))


def test_solvers_take_the_evaluations_that_they_should():
    nfe = {
        solver: task(**FEW | {"samples": 1}, solver=solver).evaluate("test")["nfe"]
        for solver in ("s4", "euler", "euler-langevin", "ancestral-langevin")
    }
    assert nfe == {"s4": 5, "euler": 5, "euler-langevin": 10, "ancestral-langevin": 10}


@pytest.mark.parametrize("convention", ["emd", "tv"])
def test_floor_is_that_of_training_graphs(convention):
    metrics = task(model="random", samples=20, convention=convention).evaluate("test")
    assert 0 < metrics["floor"] < 0.1
    assert metrics["mmd"] > 3 * metrics["floor"]
    if convention == "emd":
        assert metrics["floor"] == pytest.approx((0.0055 + 0.0170 + 0.0010) / 3, abs=1e-4)


def test_coupling_is_what_agreement_is_above_shuffled_features():
    metrics = task(model="random", samples=20).evaluate("test")
    assert metrics["degree_agreement"] > 0.97  # features of random graphs are their degrees, as far as they go
    assert 0.1 < metrics["shuffled_agreement"] < 0.5
    assert metrics["degree_coupling"] == metrics["degree_agreement"] - metrics["shuffled_agreement"] > 0.5


def test_averaged_weights_are_what_graphs_are_made_with():
    built = task(**FEW, average_weights=True)
    losses(built, 3)
    averaged = built.evaluate("test")
    with torch.no_grad():
        for own, mean in zip(built.model.parameters(), built.average.module.parameters(), strict=True):
            own.copy_(mean)
    built.settings = built.settings.with_options({"average_weights": False})
    assert built.evaluate("test") == averaged


def test_molecules_are_judged_as_molecules(tmp_path, monkeypatch):
    all_of_it = load("qm9")  # reading a hundred thousand SMILES takes half a minute
    few = replace(all_of_it, train=all_of_it.train[:300], test=all_of_it.test[:100])
    monkeypatch.setattr("aleator.recipes.graphs.task.load", lambda name: few)
    options = Graphs(data="qm9", train_size=64, steps=2, batch_size=32, **FEW)
    result = run(options, tmp_path / "run", QUIET, name="graphs")
    assert result["headline"] == {"name": "validity", "direction": "max"}
    assert 0 <= result["test"]["validity"] <= 1
    drawn = read_json(tmp_path / "run" / "exhibits.json")["exhibits"]
    assert [exhibit["heading"] for exhibit in drawn] == ["Generated molecules", "Training molecules"]
    assert drawn[0]["description"].startswith("The first 6, after correction. 6 were generated in ")
    assert drawn[1]["svg"].count("<svg") == 1


def test_molecules_that_cannot_be_read_are_counted_and_listed(monkeypatch, caplog):
    lines = load("qm9").train[:20]
    broken = replace(load("qm9"), train=(lines[0], "C1CC", *lines[1:]), test=lines)
    monkeypatch.setattr("aleator.recipes.graphs.task.load", lambda name: broken)
    with caplog.at_level(logging.WARNING, "aleator.recipes"):
        built = task(data="qm9", batch_size=4)
    assert len(built.train.x) == 20
    assert "1 training molecules of qm9 are left out, the first: line 1, 'C1CC': RDKit cannot read it" in caplog.text


def test_large_graphs_are_generated_a_few_at_a_time():
    at_a_time = {name: generated_at_a_time(settings.max_nodes, "cpu") for name, settings in PUBLISHED.items()}
    assert (at_a_time["qm9"], at_a_time["enzymes"], at_a_time["grid"]) == (500, 67, 8)
    assert generated_at_a_time(PUBLISHED["qm9"].max_nodes, "cuda") > 10_000
    assert generated_at_a_time(PUBLISHED["grid"].max_nodes, "cuda") == 8


# --- saving, resuming, processes


def test_report_draws_generated_graphs_next_to_training_graphs(tmp_path):
    out = tmp_path / "run"
    assert main(["run", "graphs", "--steps", "2", *FEW_WORDS, "--trackers", "--out", str(out)]) == 0
    shown = {exhibit["heading"]: exhibit for exhibit in read_json(out / "exhibits.json")["exhibits"]}
    assert list(shown) == ["Generated graphs", "Training graphs"]
    nodes = shown["Training graphs"]["plot"]["data"][1]
    assert len(nodes["x"]) == sum(graph.num_nodes for graph in load("community-small").train[:12])
    edges = shown["Training graphs"]["plot"]["data"][0]
    assert edges["x"].count(None) == sum(len(graph.edges) for graph in load("community-small").train[:12])
    loaded = load_run(out)
    assert loaded.task.evaluate("test") == loaded.result["test"]


# --- bad input


@pytest.mark.plain
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "0"), "steps must be at least 1, got 0"),
        (("--samples", "0"), "samples must be at least 1, got 0"),
        (("--lr", "0"), "lr must be positive and finite, got 0.0"),
        (("--snr", "-1"), "snr must be finite and not negative, got -1.0"),
        (("--data", "qm9", "--model", "random"), "model must be gdss or untrained with data qm9, got random"),
        (("--data", "community"), "--data must be one of community-small"),
        (("--train-size", "81"), "train_size must be at most 80 for community-small, got 81"),
        (("--solver", "pc"), "got 'pc'"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, tuple) else "",
)
def test_bad_options_are_named(words, message, tmp_path, capsys):
    assert main(["run", "graphs", *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
