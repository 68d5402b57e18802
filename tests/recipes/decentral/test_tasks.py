"""What a swarm learns: batches that have addresses, θ₀ of the run alone, prompts that do not depend on their batch."""

import pytest
import torch
from torch.nn import functional as F

from aleator.gradients import apply_scalars_, log8_decode, log8_encode, spsa
from aleator.random import Streams
from aleator.recipes.decentral.batches import batch_indices
from aleator.recipes.decentral.learned import TaskOptions
from aleator.recipes.decentral.tasks import make_task


def test_batches_are_functions_of_their_address_and_uniform():
    draws = torch.cat(
        [batch_indices(7, k, m, s, size=64, examples=90) for k in range(10) for m in range(5) for s in range(4)]
    )
    counts = torch.bincount(draws, minlength=90)
    assert len(counts) == 90
    assert float(((counts - 142.2) ** 2 / 142.2).sum()) < 89 + 5 * (2 * 89) ** 0.5  # chi square; false alarm below 1e-5
    assert torch.equal(batch_indices(7, 0, 0, 1, size=64, examples=90), draws[64:128])
    assert not torch.equal(batch_indices(8, 0, 0, 1, size=64, examples=90), draws[64:128])


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_a_machine_sees_its_part_only_and_all_of_it(shards):
    for machine in (0, 1, 2, 2**40 + 5):
        seen = batch_indices(0, 0, machine, 0, size=2000, examples=20, shards=shards)
        assert set(seen.tolist()) == {i for i in range(20) if i % shards == machine % shards}


def test_more_shards_than_examples_are_refused():
    with pytest.raises(ValueError, match="shards must be at most the number of training examples, 5, got 6"):
        batch_indices(0, 0, 0, 0, size=1, examples=5, shards=6)


def test_the_network_knows_digits_upright_and_not_transposed():
    task = make_task(TaskOptions(), 3)
    x, y = task.examples["test"]
    upright = x.view(-1, 8, 8).transpose(1, 2).flatten(1)
    found = torch.func.functional_call(task.network, task.theta, (upright,)).argmax(1)
    assert float((found == y).double().mean()) > 0.93
    assert task.evaluate(task.theta, "test")["accuracy"] < 0.25
    assert sum(tensor.numel() for tensor in task.theta.values()) == 2410


def test_theta_belongs_to_the_run_and_is_on_the_grid_on_which_processors_agree():
    one, again, other = (make_task(TaskOptions(), run).theta for run in (3, 3, 4))
    for name, tensor in one.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor * 4096, (tensor * 4096).round())
        assert tensor.dtype == torch.float32
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_scalars_teach_the_network_transposed_digits():
    task = make_task(TaskOptions(), 5)
    theta = task.theta
    before = task.evaluate(theta, "validation")["loss"]
    for k in range(60):
        keys = [(5, k, machine, 0) for machine in range(4)]
        slopes = []
        for key in keys:
            batch = task.batch(*key[1:])
            slopes.append(float(spsa(lambda t, b=batch: task.loss(t, b), theta, None, 1e-3, key=key)))
        apply_scalars_(theta, [log8_decode(log8_encode(g)) for g in slopes], None, 0.012, keys=keys)
    assert task.evaluate(theta, "validation")["loss"] < 0.8 * before


@pytest.fixture
def small(monkeypatch, mirror):
    """The small language model after two steps."""
    pytest.importorskip("transformers", reason="needs the extra decentral")
    from aleator.recipes.decentral import sentiment

    monkeypatch.setattr(sentiment, "_PRETRAINING", 2)
    return sentiment


def test_the_loss_of_a_prompt_does_not_depend_on_its_batch(small):
    task = make_task(TaskOptions(learned="sst2", batch_size=8), 1)
    tokens, known, labels = task.batch(0, 0, 0)
    assert tokens.shape[1] == int(known.sum(1).max())
    alone = []
    for i in range(8):
        length = int(known[i].sum())
        alone.append(
            float(task.loss(task.theta, (tokens[i : i + 1, :length], known[i : i + 1, :length], labels[i : i + 1])))
        )
    assert float(task.loss(task.theta, (tokens, known, labels))) == pytest.approx(sum(alone) / 8, rel=1e-5)
    # "… sentiment :" is where the answer is asked for
    last = tokens[torch.arange(8), known.sum(1) - 1]
    assert len(set(last.tolist())) == 1
    assert len(task.examples["train"][2]) == 3460
    found = task.evaluate(task.theta, "validation")
    assert found["examples"] == 872
    assert found["loss"] == pytest.approx(0.693, abs=0.05)


def test_adapters_are_all_that_is_trained_and_change_the_loss(small, tmp_path):
    pytest.importorskip("peft", reason="needs the extra decentral")
    small.save_checkpoint(tmp_path / "small")
    whole = make_task(TaskOptions(learned="sst2", batch_size=4, checkpoint=str(tmp_path / "small")), 1)
    task = make_task(TaskOptions(learned="sst2", batch_size=4, checkpoint=str(tmp_path / "small"), lora=2), 1)
    assert all("lora_" in name for name in task.theta)
    assert sum(t.numel() for t in task.theta.values()) < 0.1 * sum(t.numel() for t in whole.theta.values())
    batch = task.batch(0, 0, 0)
    at_start = float(task.loss(task.theta, batch))
    assert at_start == pytest.approx(float(whole.loss(whole.theta, batch)), rel=1e-6)  # adapters begin as nothing
    with Streams(0).scope("noise"):
        moved = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in task.theta.items()}
    assert abs(float(task.loss(moved, batch)) - at_start) > 1e-6
    assert float(task.loss(task.theta, batch)) == at_start  # the network itself stayed
    other = make_task(TaskOptions(learned="sst2", batch_size=4, checkpoint=str(tmp_path / "small"), lora=2), 2)
    assert any(not torch.equal(task.theta[name], other.theta[name]) for name in task.theta)


@pytest.mark.plain
def test_what_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ALEATOR_DATA", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"learned sst2 needs train\.tsv\.gz in the folder sst2 of ALEATOR_DATA"
    ):
        make_task(TaskOptions(learned="sst2"), 1)
    with pytest.raises(ValueError, match="lora cannot be used with learned digits, got 4"):
        TaskOptions(lora=4)


def test_the_loss_of_digits_is_the_cross_entropy():
    task = make_task(TaskOptions(batch_size=16), 3)
    x, y = task.batch(0, 0, 0)
    scores = torch.tanh(x @ task.theta["0.weight"].T + task.theta["0.bias"]) @ task.theta["2.weight"].T
    torch.testing.assert_close(task.loss(task.theta, (x, y)), F.cross_entropy(scores + task.theta["2.bias"], y))
