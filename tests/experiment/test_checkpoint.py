import logging
import shutil

import pytest
import torch

from aleator.experiment.checkpoint import CheckpointStore
from aleator.experiment.files import UnusableFolder

STATE = {"weights": torch.arange(5.0), "nested": [{"a": 1, "b": None, "c": "x"}, (2.5, True)]}


def test_newest_state_comes_back_and_old_ones_go(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 10):
        store.save(step, {**STATE, "step": step})
    loaded = store.load()
    assert loaded["step"] == 10
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert loaded["nested"] == STATE["nested"]
    assert len(store) == 2


def test_no_checkpoint_is_none(tmp_path):
    assert CheckpointStore(tmp_path / "checkpoints", keep=2).load() is None


def damage_by_truncation(path):
    content = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(content[:-7])


def damage_by_flipping_a_bit(path):
    content = bytearray((path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "state.pt").write_bytes(bytes(content))


def damage_by_losing_the_state(path):
    (path / "state.pt").unlink()


def damage_by_losing_the_manifest(path):
    (path / "manifest.json").unlink()


DAMAGES = [
    damage_by_truncation,
    damage_by_flipping_a_bit,
    damage_by_losing_the_state,
    damage_by_losing_the_manifest,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog, damage):
    store = CheckpointStore(tmp_path, keep=3)
    store.save(1, {"step": 1})
    damage(store.save(2, {"step": 2}))
    with caplog.at_level(logging.WARNING):
        assert store.load()["step"] == 1
    assert "step-00000002 is damaged" in caplog.text


def test_checkpoints_are_ordered_by_number_and_not_by_name(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    store.save(99_999_999, {"step": 1})
    store.save(100_000_000, {"step": 2})
    assert store.load()["step"] == 2
    assert len(store) == 1


def test_damaged_checkpoint_ahead_does_not_cost_the_good_one(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    damage_by_truncation(store.save(20, {"step": 20}))
    store.save(15, {"step": 15})  # the run went back behind it
    assert store.load()["step"] == 15


def test_a_damaged_checkpoint_is_not_counted_among_those_to_keep(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    paths = [store.save(step, {"step": step}) for step in (1, 2, 3)]
    damage_by_truncation(paths[2])
    fewer = CheckpointStore(tmp_path, keep=1)
    assert fewer.load()["step"] == 2
    fewer.drop_old()
    assert [path.exists() for path in paths] == [False, True, True]
    fewer.save(3, {"step": 3})
    assert fewer.load()["step"] == 3
    assert [path.exists() for path in paths] == [False, False, True]


def test_state_that_needs_unpickling_is_refused_when_it_is_saved(tmp_path):
    store = CheckpointStore(tmp_path, keep=1)
    with pytest.raises(TypeError, match="state_dict must hold tensors, numbers, strings"):
        store.save(1, {"path": tmp_path})
    assert store.load() is None


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    damage_by_truncation(store.save(1, STATE))
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        store.load()


def test_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    damage_by_truncation(store.save(1, STATE))
    store.save(1, STATE)
    assert torch.equal(store.load()["weights"], STATE["weights"])


def test_half_written_checkpoint_is_not_seen(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, keep=3)
    store.save(1, {"step": 1})

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        store.save(2, {"step": 2})
    monkeypatch.undo()
    assert store.load()["step"] == 1
    store.save(2, {"step": 2})
    assert store.load()["step"] == 2


def test_pickled_code_in_a_checkpoint_is_not_run(tmp_path, caplog):
    import hashlib

    from aleator.experiment.files import write_json

    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    path = store.save(1, STATE)
    shutil.copy(path / "state.pt", tmp_path / "good.pt")
    torch.save({"x": Hostile()}, path / "state.pt")
    content = (path / "state.pt").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    write_json(path / "manifest.json", {"step": 1, "bytes": len(content), "sha256": digest})
    with pytest.raises(UnusableFolder, match="every checkpoint in"):
        store.load()
    assert "state.pt cannot be read: UnpicklingError" in caplog.text
    assert not (tmp_path / "owned").exists()
