"""Two processes, gloo: what one process computes, two compute together."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aleator.experiment.files import read_json

HERE = Path(__file__).parent

# Several runs in one launch: starting processes takes longer than the runs.
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from aleator.experiment import RunOptions, run
from aleator.recipes.classify import Classify

requests = json.loads(sys.argv[1])
processes = int(sys.argv[2])

class Recorded(Classify):
    def task(self, streams, accelerator):
        assert accelerator.num_processes == processes, accelerator.num_processes
        task = super().task(streams, accelerator)
        step = task.train_step
        def train_step(batch):
            seen.append(batch.inputs.double().sum((1, 2, 3)).tolist())
            result = step(batch)
            if "stops" in request["out"] and accelerator.process_index == 1 and len(seen) == 8:
                result.stop = "process 1 has seen enough"
            return result
        task.train_step = train_step
        return task

options = RunOptions(trackers=(), log_every=4)
for request in requests:
    seen = []
    run(Recorded(**request["recipe"]), Path(request["out"]), options, name="classify", resume=request["resume"])
    rank = os.environ.get("RANK", "0")
    Path(request["out"] + f"-seen-{rank}.json").write_text(json.dumps(seen))
"""


def train(processes, tmp_path: Path, count: int, recipes: dict[str, dict], resume: bool = False) -> dict[str, Path]:
    """Carry out the recipes one after the other, each in ``count`` processes; return the folder of each by its name."""
    folders = {name: tmp_path / name for name in recipes}
    requests = [{"recipe": recipe, "out": str(folders[name]), "resume": resume} for name, recipe in recipes.items()]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    processes(program, count, json.dumps(requests), count)
    return folders


def seen(folder: Path, rank: int) -> list[list[float]]:
    return json.loads(Path(f"{folder}-seen-{rank}.json").read_text())


def largest_difference(one: Path, other: Path) -> float:
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


SMALL = {"subset": "rs2", "ratio": 0.1, "rounds": 5}
EXACT = {**SMALL, "precision": "float64"}
PLAIN = {**EXACT, "momentum": 0.0}  # an optimizer without state
ADAM = {**EXACT, "optimizer": "adamw", "lr": 0.01}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, processes):
    tmp = tmp_path_factory.mktemp("distributed")
    one = train(
        processes,
        tmp,
        1,
        {
            "plain-1": PLAIN,
            "float64-1": EXACT,
            "float32-1": SMALL,
            "adam-1": ADAM,
            "cut-one": {**ADAM, "shard": True, "stop_at": 10},
        },
    )
    two = train(
        processes,
        tmp,
        2,
        {
            "float64-2": EXACT,
            "float32-2": SMALL,
            "sharded": {**EXACT, "shard": True},
            "accumulated": {**EXACT, "accumulate": 3},
            "cut-sgd": {**EXACT, "shard": True, "stop_at": 10},
            "cut-plain": {**PLAIN, "shard": True, "stop_at": 10},
            "stops": EXACT,
            "cut-adam": {**ADAM, "shard": True, "stop_at": 10},
        },
    )
    return one | two


def test_two_processes_see_disjoint_halves_of_the_same_rounds(folders):
    one, two = folders["float64-1"], folders["float64-2"]
    for whole, first, second in zip(seen(one, 0), seen(two, 0), seen(two, 1), strict=True):
        assert len(first) == len(second) == 16
        assert sorted(first + second) == sorted(whole)


def test_float64_held_out_loss_equals_one_process(folders):
    one, two = (read_json(folders[name] / "result.json") for name in ("float64-1", "float64-2"))
    assert one["steps"] == two["steps"] == 20
    assert abs(one["test"]["loss"] - two["test"]["loss"]) < 1e-8
    assert one["test"]["accuracy"] == two["test"]["accuracy"]
    assert one["test"]["examples"] == two["test"]["examples"] == 360
    assert one["examples"] == two["examples"]


def test_float32_weights_after_20_steps_equal_one_process(folders):
    assert largest_difference(folders["float32-1"], folders["float32-2"]) < 1e-6


def test_logged_training_loss_is_that_of_the_whole_batch(folders):
    logs = [folders[name] / "metrics.jsonl" for name in ("float64-1", "float64-2")]
    rows = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    for one, two in zip(*rows, strict=True):
        assert one["split"] == two["split"]
        assert one["metrics"] == pytest.approx(two["metrics"], abs=1e-9)


def test_sharded_weights_are_saved_whole_and_equal_one_process(folders):
    assert largest_difference(folders["float64-1"], folders["sharded"]) < 1e-12


def test_accumulation_over_two_processes_equals_one_process(folders):
    assert largest_difference(folders["float64-1"], folders["accumulated"]) < 1e-12


def test_sharded_runs_resume_under_any_number_of_processes(folders, processes, tmp_path):
    cut = {"cut-sgd": EXACT, "cut-plain": PLAIN, "cut-adam": ADAM, "cut-one": ADAM}
    whole = {name: {**recipe, "shard": True} for name, recipe in cut.items()}
    for name, resumed in whole.items():
        shutil.copytree(folders[name], tmp_path / name)
        # The run that ended at 10 becomes the first half of one that does not: the same options but for the end.
        _as_unfinished(tmp_path / name, resumed)
    shutil.copytree(tmp_path / "cut-plain", tmp_path / "cut-plain-too")
    train(processes, tmp_path, 1, {name: whole[name] for name in ("cut-sgd", "cut-plain")}, resume=True)
    two = {name: whole[name] for name in ("cut-adam", "cut-one")}
    train(processes, tmp_path, 2, {**two, "cut-plain-too": whole["cut-plain"]}, resume=True)
    assert largest_difference(folders["float64-1"], tmp_path / "cut-sgd") < 1e-12
    assert largest_difference(folders["plain-1"], tmp_path / "cut-plain") < 1e-12
    assert largest_difference(folders["plain-1"], tmp_path / "cut-plain-too") < 1e-12
    # Adam divides by the root of a mean square, so the order of a sum shows more.
    assert largest_difference(folders["adam-1"], tmp_path / "cut-adam") < 1e-9
    assert largest_difference(folders["adam-1"], tmp_path / "cut-one") < 1e-9
    # The cut is in the middle of a log window: what every process had gathered before it counts.
    logs = [_training_rows(folder) for folder in (folders["adam-1"], tmp_path / "cut-adam")]
    assert len(logs[0]) == 5
    for one, resumed in zip(*logs, strict=True):
        assert one == pytest.approx(resumed, abs=1e-9)


def _training_rows(folder: Path) -> list[dict[str, float]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row["metrics"] for row in rows if row["split"] == "train"]


def test_reason_to_stop_of_one_process_ends_the_run_of_all(folders):
    result = read_json(folders["stops"] / "result.json")
    assert (result["steps"], result["stopped"]) == (8, "process 1 has seen enough")


def _as_unfinished(folder: Path, recipe: dict) -> None:
    from aleator.experiment import RunOptions
    from aleator.experiment.checkpoint import CheckpointStore
    from aleator.experiment.identity import identity, options_of
    from aleator.recipes.classify import Classify

    options = RunOptions(trackers=(), log_every=4)
    config = read_json(folder / "config.json")
    config["options"] = options_of(Classify(**recipe))
    config["identity"] = identity("classify", Classify(**recipe), options)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").unlink()
    store = CheckpointStore(folder / "checkpoints", 1)
    state = store.load()
    shutil.rmtree(folder / "checkpoints")
    store.save(state["step"], {**state, "identity": config["identity"]})


def test_interrupt_of_one_process_stops_both_at_the_same_step_and_resumes(tmp_path, processes):
    toy = f"{HERE / 'toy_recipe.py'}:Toy"
    program = tmp_path / "interrupted.py"
    program.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "from aleator.experiment import Interrupted, RunOptions, run\n"
        "from aleator.experiment.registry import resolve\n"
        f"toy = {toy!r}\n"
        "resume = sys.argv[2] == 'resume'\n"
        "at = 9 if os.environ.get('RANK') == '1' and sys.argv[2] == 'signal' else -1\n"
        "recipe = resolve(toy)()\n"
        "object.__setattr__(recipe, 'signal_at', -1)\n"
        "class OneSignals(type(recipe)):\n"
        "    def task(self, streams, accelerator):\n"
        "        assert accelerator.num_processes == 2\n"
        "        task = super().task(streams, accelerator)\n"
        "        object.__setattr__(self, 'signal_at', at)\n"
        "        return task\n"
        "try:\n"
        "    run(OneSignals(), Path(sys.argv[1]), RunOptions(trackers=(), log_every=3), name=toy, resume=resume)\n"
        "except Interrupted as error:\n"
        "    print('INTERRUPTED', error, flush=True)\n"
    )
    first = processes(program, 2, tmp_path / "run", "signal")
    assert ["INTERRUPTED interrupted at 10 steps" in said for said in first] == [True, True]
    processes(program, 2, tmp_path / "run", "resume")
    processes(program, 2, tmp_path / "whole", "whole")
    assert largest_difference(tmp_path / "run", tmp_path / "whole") == 0
    state = torch.load(max((tmp_path / "run" / "checkpoints").iterdir()) / "state.pt", weights_only=True)
    assert len(state["ranks"]) == 2
