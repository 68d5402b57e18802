"""Masks drawn by gaps are masks drawn by coins."""

import numpy as np
import pytest
import torch
from scipy import stats

from aleator.rl import STAC, dropout_masks
from tests.rl.spaces import SMALL, a_batch, box


@pytest.mark.parametrize("p", [0.001, 0.01, 0.09, 0.5])
def test_as_many_units_are_dropped_as_coins_would(p):
    # False alarm of each test: 1e-4.
    masks = dropout_masks([(200, 100)] * 5, p, torch.Generator().manual_seed(1))
    for mask in masks:
        assert set(mask.unique().tolist()) <= {0.0, torch.tensor(1 / (1 - p)).item()}
    dropped = sum(int((mask == 0).sum()) for mask in masks)
    assert stats.binomtest(dropped, 100_000, p).pvalue > 1e-4


def test_the_gaps_are_geometric_to_the_end():
    mask = dropout_masks([(400_000,)], 0.02, torch.Generator().manual_seed(2))[0]
    places = (mask == 0).nonzero().flatten().numpy()
    counts = np.bincount(np.minimum(np.diff(np.concatenate([[-1], places])), 100), minlength=101)[1:]
    expected = stats.geom.pmf(np.arange(1, 101), 0.02)
    expected[-1] = stats.geom.sf(99, 0.02)
    assert stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-4
    by_part = np.histogram(places, bins=20, range=(0, 400_000))[0]
    assert stats.chisquare(by_part).pvalue > 1e-4


def test_every_pass_has_a_mask_of_its_own():
    agent = STAC(box(3), box(2), actor_dropout=0.3, critic_dropout=0.3, **SMALL)
    masks = agent.draw_masks(4)
    together = [masks.next_actor, *masks.targets, *masks.critics, masks.actor, *masks.judges]
    assert [len(each) for each in together] == [2] * 5
    flat = [mask for each in together for mask in each]
    assert not any(torch.equal(a, b) for i, a in enumerate(flat) for b in flat[:i])


def test_the_targets_dropout_can_be_switched_off_and_nothing_else_with_it():
    agent = STAC(box(3), box(2), actor_dropout=0.3, critic_dropout=0.2, target_dropout=False, **SMALL)
    masks = agent.draw_masks(4)
    assert masks.targets == [[]]
    assert masks.critics[0]
    assert masks.next_actor


def test_without_dropout_training_and_evaluation_agree_and_with_it_only_evaluation_repeats_itself():
    obs = a_batch(5, dtype=torch.float32)["obs"]
    for p, same in ((0.0, True), (0.3, False)):
        agent = STAC(box(3), box(2), actor_dropout=p, critic_dropout=p, **SMALL)
        passes = [agent.actor(obs, agent.draw_actor_masks(5)) for _ in range(2)]
        assert torch.equal(*passes) is same
        assert torch.equal(passes[0], agent.actor(obs)) is same
        assert torch.equal(agent.actor(obs), agent.actor(obs))


@pytest.mark.plain
def test_a_probability_of_one_is_refused():
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\), got 1\.0"):
        dropout_masks([(2,)], 1.0, torch.Generator())
    with pytest.raises(ValueError, match=r"critic_dropout must be in \[0, 1\), got 1\.0"):
        STAC(box(3), box(2), critic_dropout=1.0)
