"""The committed evidence says what the committed experiments say, and the tables what the evidence says."""

import shlex

import pytest

from aleator.commands import compare, flags
from aleator.commands.methods import METHODS
from aleator.commands.variants import variants
from aleator.experiment import registry
from aleator.experiment.files import read_json
from experiments import evidence, tables
from experiments.claims import AllOf, BestOf, Claim, Experiment

# A method may come before its experiments; the README then says that it has no evidence yet.
WITH_EXPERIMENTS = [
    method.name
    for method in METHODS
    if (evidence.ROOT / "experiments" / f"{method.name.replace('-', '_')}.py").exists()
]

FIELDS = {
    *("claim", "baseline", "data", "seeds", "figures", "interval", "verdict", "scale"),
    *("wall_seconds", "machine", "versions", "commit", "command"),
}


@pytest.mark.parametrize("method", WITH_EXPERIMENTS)
def test_evidence_covers_every_committed_claim_with_its_command(method):
    written = read_json(evidence.EVIDENCE / f"{method}.json")["claims"]
    committed = [(e, claim) for e in evidence.experiments_of(method) for claim in e.claims]
    assert [row["claim"] for row in written] == [claim.text for _, claim in committed]
    assert [row["command"] for row in written] == [shlex.join(e.command) for e, _ in committed]
    assert all(row.keys() >= FIELDS for row in written)


@pytest.mark.parametrize("method", WITH_EXPERIMENTS)
def test_verdicts_follow_from_the_figures(method):
    claims = [claim for e in evidence.experiments_of(method) for claim in e.claims]
    for row, claim in zip(read_json(evidence.EVIDENCE / f"{method}.json")["claims"], claims, strict=True):
        if row["verdict"] == "not run":
            assert row["figures"] is None
            continue
        (said, difference), (a, of_a), (b, of_b) = row["figures"].items()
        for side, name in ((claim.a, a), (claim.b, b)):
            if isinstance(side, float):
                assert float(name) == side
            elif not isinstance(side, BestOf):
                assert str(side) == name
        assert row["verdict"] == claim.verdict(difference, row["interval"], constant=row["constant"])
        if claim.relation == "more often than":
            assert difference == of_a / (of_a + of_b)
        else:
            assert difference == pytest.approx(of_b - of_a if said.endswith("reduction") else of_a - of_b)


@pytest.mark.parametrize("method", WITH_EXPERIMENTS)
def test_every_committed_and_every_recorded_command_is_accepted(method, mirror):
    recorded = {row["command"] for row in read_json(evidence.EVIDENCE / f"{method}.json")["claims"]}
    committed = {shlex.join(experiment.command) for experiment in evidence.experiments_of(method)}
    for command in recorded | committed:
        aleator, verb, recipe, *words = shlex.split(command)
        assert (aleator, verb) == ("aleator", "compare")
        kind = registry.resolve(recipe)
        base, grid, *_ = flags.parse(compare.parts(flags.unchecked(kind)), words, prog="aleator compare")
        assert all(isinstance(variant.recipe, kind) for variant in variants(base, grid.variant))


def test_experiment_is_run_judged_and_kept(tmp_path, monkeypatch):
    tiny = Experiment(
        "tiny",
        "digits",
        (
            *("classify", "--rounds", "2", "--train-size", "320", "--seeds", "2", "--workers", "1"),
            *("--variant", "a:subset=rs2,ratio=0.5", "--variant", "b:subset=static,ratio=0.5"),
        ),
        (
            Claim("a is not worse", "a", "b", "no less than", 1.0),
            Claim("a is often better", AllOf("as", ("a",)), AllOf("bs", ("b",)), "more often than", 0.5),
        ),
    )
    gpu = Experiment("large", "cifar10", ("classify",), (Claim("c", "a", "b", "at least", 0.0),), scale="gpu")
    monkeypatch.setattr(evidence, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.setattr(evidence, "experiments_of", lambda method: (tiny, gpu))
    evidence.produce("mine", ("laptop",))
    ran, often, not_run = read_json(tmp_path / "evidence" / "mine.json")["claims"]
    assert ran["verdict"] == "reproduced"
    assert ran["seeds"] == 2
    assert ran["wall_seconds"] > 0
    won, lost = often["figures"]["as"], often["figures"]["bs"]
    assert won + lost == 2
    assert often["figures"]["accuracy wins"] == won / 2
    assert often["verdict"] == ("partly" if won == 2 else "not")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- begin evidence:mine -->\n<!-- end evidence:mine -->\n")
    tables.update(check=False)
    assert f"| accuracy wins: {won} of 2, {50 * won} % [" in (tmp_path / "README.md").read_text()
    assert not_run["verdict"] == "not run"
    # A later call for another scale keeps what is there.
    evidence.produce("mine", ())
    assert read_json(tmp_path / "evidence" / "mine.json")["claims"] == [ran, often, not_run]


def test_stale_table_is_found_and_mended(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# x\n<!-- begin methods -->\nold\n<!-- end methods -->\ntail\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.update(check=True) == [(tmp_path / "README.md").relative_to(tmp_path)]
    assert "old" in (tmp_path / "README.md").read_text()
    tables.update(check=False)
    text = (tmp_path / "README.md").read_text()
    assert "| [rs2](docs/methods/rs2.md) |" in text
    assert text.endswith("<!-- end methods -->\ntail\n")
    assert tables.update(check=True) == []
    (tmp_path / "README.md").write_text("<!-- begin nonsense -->\n<!-- end nonsense -->\n")
    with pytest.raises(
        ValueError,
        match=r"a table must be one of methods, wishes, evidence, .*, book, got 'nonsense'",
    ):
        tables.update(check=True)


def test_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"method must be one of .*lamb, .*, got 'rs3'"):
        evidence.experiments_of("rs3")
