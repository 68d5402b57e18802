"""Ray tasks give the numbers of local processes, and lose only what was lost."""

import os
import sys
from pathlib import Path

import pytest

from aleator.experiment import RunOptions
from aleator.experiment.comparison.execute import compare
from aleator.experiment.comparison.plan import Variant
from aleator.experiment.comparison.ray_workers import RayWorkers
from aleator.experiment.registry import resolve
from tests.experiment.comparison.same_numbers import assert_same_numbers

GRID = f"{Path(__file__).parent / 'grid_recipe.py'}:Grid"
TOY = f"{Path(__file__).parents[1] / 'toy_recipe.py'}:Toy"
QUIET = RunOptions(trackers=(), log_every=3)


def test_a_missing_ray_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'aleator\[ray\]'"):
        RayWorkers("local", threads=1, out=tmp_path)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two cores each, on this machine's loopback."""
    pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(**node)
        ray.init(cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_two_nodes_give_the_numbers_of_local_processes(cluster, tmp_path):
    recipe = resolve(TOY)
    variants = [Variant("base", recipe()), Variant("low", recipe(lr=0.01), {"lr": 0.01})]
    plan = {"name": TOY, "seeds": [0], "options": QUIET}
    theirs = compare(variants, out=tmp_path / "ray", ray=cluster.address, **plan)
    ours = compare(variants, out=tmp_path / "local", workers=2, **plan)
    assert theirs["finished_runs"] == ours["finished_runs"] == 2
    assert theirs["pairs"] == ours["pairs"]
    folders = sorted(path.name for path in (tmp_path / "local" / "runs").iterdir())
    assert folders == sorted(path.name for path in (tmp_path / "ray" / "runs").iterdir())
    for folder in folders:
        assert_same_numbers(tmp_path / "local" / "runs" / folder, tmp_path / "ray" / "runs" / folder)


@pytest.mark.slow
def test_a_killed_worker_loses_no_finished_run_and_bad_input_is_told(cluster, tmp_path, caplog):
    recipe = resolve(GRID)
    variants = [Variant("base", recipe()), Variant("dies", recipe(kill_seed=1), {"kill_seed": 1})]
    content = compare(variants, name=GRID, seeds=[1], out=tmp_path, options=QUIET, ray=cluster.address)
    assert content["finished_runs"] == 1
    (failure,) = content["failures"]
    assert (failure["variant"], failure["seed"], failure["status"]) == ("dies", 1, "failed")
    assert "WorkerCrashedError" in failure["error"]
    assert "core-worker" not in failure["error"]  # a log of Ray's, on some machine
    assert "dies seed 1 did not finish: the process of the run died" in caplog.text
    assert f"(log: {tmp_path / failure['log']})" in caplog.text
    refused = [Variant("base", recipe(refuse=True))]
    with pytest.raises(ValueError, match=r"^variant 'base': batch_size must be at most 3, got 8$"):
        compare(refused, name=GRID, seeds=[0], out=tmp_path / "refused", options=QUIET, ray=cluster.address)


@pytest.mark.slow
def test_an_interrupted_ray_comparison_saves_and_goes_on(cluster, tmp_path):
    """The only run sends this process a SIGINT in its fifth step; the comparison passes it on."""
    from aleator.experiment import Interrupted

    variants = [Variant("base", resolve(GRID)(interrupt=os.getpid()))]
    plan = {"name": GRID, "seeds": [0], "out": tmp_path, "options": QUIET, "ray": cluster.address}
    with pytest.raises(Interrupted):
        compare(variants, **plan)
    assert list((tmp_path / "runs").glob("base-seed0-*/checkpoints/step-*"))
    assert compare(variants, **plan)["finished_runs"] == 1


@pytest.mark.slow
def test_more_threads_than_the_cluster_has_cores_is_refused(cluster, tmp_path):
    with pytest.raises(ValueError, match="threads must be at most the cores of a node of the cluster, 2, got 3"):
        RayWorkers(cluster.address, threads=3, out=tmp_path)


@pytest.mark.slow
def test_a_folder_that_a_node_does_not_see_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("aleator.experiment.comparison.ray_workers._read_token", lambda path: None)
    with pytest.raises(ValueError, match=r"does not see the folder .*; choose one with --out that all nodes share"):
        RayWorkers(cluster.address, threads=1, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
