"""The recipe control: from environment to report, refusals, and a crash that is no end."""

import gymnasium
import numpy as np
import pytest

from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.exhibit import read_exhibits
from aleator.experiment.tracking import read_metrics
from aleator.recipes.control import Control
from aleator.recipes.control.exhibits import _Film
from tests.rl.worlds import Counting

SMALL = {"steps": 30, "learning_starts": 5, "batch_size": 4, "width": 8, "episodes": 2, "test_episodes": 3}
QUIET = RunOptions(trackers=(), log_every=5)


class Crashing(Counting):
    """Breaks at the tenth step of an episode while it is told to."""

    breaks = True

    def step(self, action):
        if self.breaks and self.state[1] == 9:
            raise RuntimeError("the simulator lost its ground")
        return super().step(action)


# Gymnasium finds environments by name; these are for tests alone.
gymnasium.register("Six-v0", entry_point=lambda: Counting(cut=6))
gymnasium.register("Crashing-v0", entry_point=lambda: Crashing(cut=12))


def test_a_run_reports_returns_errors_and_an_episode_to_watch(tmp_path):
    recipe = Control(env="RiskyPointMass-v0", **SMALL)
    result = run(recipe, tmp_path, QUIET, name="control")
    assert result["progress"] == 30
    assert {"return", "median_return", "value_error", "late_value_error", "far_off", "alpha"} <= result["test"].keys()
    assert [exhibit.heading for exhibit in read_exhibits(tmp_path)] == [
        "Return",
        "Value error",
        "An episode",
        "Film strip",
    ]
    assert (tmp_path / "rollout.gif").read_bytes()[:4] == b"GIF8"
    trained = [line["metrics"] for line in read_metrics(tmp_path / "metrics.jsonl") if line["split"] == "train"]
    assert {"q_loss", "pi_loss", "entropy", "q_std", "episodes"} <= trained[-1].keys()


def test_members_report_each_beta_and_all_together(tmp_path):
    recipe = Control(env="Six-v0", betas=(0.0, 1.0), **SMALL)
    test = run(recipe, tmp_path, QUIET, name="control")["test"]
    assert test["return"] == test["return_beta_0"] == test["return_beta_1"] == 21.0
    assert test["value_error_beta_0"] != test["value_error_beta_1"]
    assert test["examples"] == 6


def test_members_of_one_beta_are_reported_together(tmp_path):
    recipe = Control(env="Six-v0", betas=(0.5, 0.5), **SMALL)
    test = run(recipe, tmp_path, QUIET, name="control")["test"]
    for name in ("value_error", "mean_value_error", "late_value_error"):
        assert test[name] == test[f"{name}_beta_0.5"]


def test_a_film_is_evenly_spaced_and_draws_little():
    class World:
        drawn = step = 0

        def render(self):
            self.drawn += 1
            return np.full((160, 160, 3), self.step // 8, np.uint8)

    world, film = World(), _Film()
    for world.step in range(1001):
        film(world)
    assert film.every == 16
    assert [int(picture[0, 0, 0]) for picture in film.pictures] == list(range(0, 126, 2))
    assert world.drawn < 300


def test_averaged_actions_have_returns_and_no_value_error(tmp_path):
    test = run(Control(env="Six-v0", actions="average", **SMALL), tmp_path, QUIET, name="control")["test"]
    assert test["return"] == 21.0
    assert not [name for name in test if "error" in name or name == "far_off"]


def test_a_crashed_environment_ends_the_run_and_a_resume_goes_on(tmp_path, monkeypatch):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    out = ["--out", str(tmp_path / "run")]
    assert (
        main(["run", "control", "--env", "Crashing-v0", *options, "--checkpoint-seconds", "0", "--trackers", *out]) == 1
    )
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Traceback" in log
    assert "the simulator lost its ground" in log
    monkeypatch.setattr(Crashing, "breaks", False)
    assert main(["run", "--resume", *out]) == 0
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"env": "CartPole-v1"}, r"act_space must be a Box of one axis, got Discrete\(2\)"),
        ({"env": "Nowhere-v0"}, "env must be an environment of gymnasium, got 'Nowhere-v0'"),
        ({"beta": -1.0}, "beta must be finite and not negative, got -1.0"),
        ({"critic_dropout": 1.0}, r"critic_dropout must be in \[0, 1\), got 1.0"),
        ({"algorithm": "sac", "beta": 0.5}, "beta cannot be used with algorithm sac, got 0.5"),
        ({"betas": (0.0, 1.0), "beta": 0.5}, "beta cannot be used with betas, got 0.5"),
        ({"betas": (0.0, 1.0), "members": 3}, "members must be 2, one for each of betas, got 3"),
        ({"target_dropout": False}, "target_dropout cannot be used with critic_dropout 0, got False"),
        ({"learning_starts": 30}, r"learning_starts must be in \[0, steps\), \[0, 30\), got 30"),
        ({"batch_size": 99}, "batch_size must be at most steps, 30, got 99"),
    ],
)
def test_what_cannot_work_is_refused(given, line, tmp_path):
    with pytest.raises(ValueError, match=line):
        run(Control(**{**SMALL, **given}), tmp_path, QUIET, name="control")
