"""The replay: what was put in comes out, the oldest goes, and only what is filled is saved."""

import pytest
import torch

from aleator.rl import STAC, Replay
from tests.rl.spaces import SMALL, box


def add(replay, first, rows, members=1):
    """Transitions that say in every field who they are."""
    names = torch.arange(first, first + rows).float().expand(members, rows)
    names = names + 1000 * torch.arange(members).unsqueeze(1)
    wide = names.unsqueeze(-1).expand(members, rows, 2)
    replay.add(wide, wide[..., :1], names, wide + 0.5, names % 3 == 0)


def test_a_transition_comes_back_as_it_went_in():
    replay = Replay(5, 2, 1)
    add(replay, 0, 4)
    batch = replay.batch(torch.tensor([3, 0, 2]))
    assert batch.obs[:, 0].tolist() == batch.reward.tolist() == batch.action[:, 0].tolist() == [3, 0, 2]
    assert batch.next_obs[:, 1].tolist() == [3.5, 0.5, 2.5]
    assert batch.terminated.tolist() == [True, True, False]
    assert batch.terminated.dtype == torch.bool


def test_the_oldest_make_room_also_across_the_seam():
    replay = Replay(5, 2, 1)
    for first in (0, 3, 6):
        add(replay, first, 3)
    assert replay.size == 5
    assert sorted(replay.batch(torch.arange(5)).reward.tolist()) == [4, 5, 6, 7, 8]
    add(replay, 20, 12)
    assert sorted(replay.batch(torch.arange(5)).reward.tolist()) == [27, 28, 29, 30, 31]


def test_members_do_not_see_each_others_transitions():
    replay = Replay(5, 2, 1, members=3)
    add(replay, 0, 4, members=3)
    found = replay.batch(torch.tensor([[0, 1], [2, 3], [0, 0]]))
    assert found.reward.tolist() == [[0, 1], [1002, 1003], [2000, 2000]]


def test_only_the_filled_slice_is_saved_and_it_goes_on():
    replay, other = Replay(50, 2, 1), Replay(50, 2, 1)
    add(replay, 0, 7)
    state = replay.state_dict()
    assert state["rows"].shape == (1, 7, 7)
    other.load_state_dict(state)
    for each in (replay, other):
        add(each, 7, 45)
    assert torch.equal(replay.batch(torch.arange(50)).reward, other.batch(torch.arange(50)).reward)


def test_an_agent_draws_distinct_transitions_and_in_the_end_all():
    agent = STAC(box(3), box(2), **SMALL)
    drawn = [agent.draw_places(40) for _ in range(40)]
    assert all(len(set(places.tolist())) == 16 for places in drawn)
    assert set(torch.cat(drawn).tolist()) == set(range(40))


@pytest.mark.plain
def test_a_replay_of_other_spaces_is_refused():
    state = Replay(5, 2, 1).state_dict()
    with pytest.raises(ValueError, match="rows of 9 numbers and capacity 5, got 1, 7 and 5"):
        Replay(5, 3, 1).load_state_dict(state)
