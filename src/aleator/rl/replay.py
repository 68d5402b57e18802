"""The replay: the last transitions, in one tensor on the device of the agent.

A transition is one row, [obs, next_obs, action, reward, terminated], so that adding some and drawing a batch take one
operation each and no work for each of them in Python. ``next_obs`` is kept, and not read from the row behind: after a
cut (truncation) that would be the first observation of another episode. ``terminated`` is true for terminal states
alone; a transition that was cut off is like any other.

Several members, trained side by side, have a replay each, which are filled in step: [members · capacity, row].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Batch(NamedTuple):
    """Transitions. Actions are in [−1, 1]. Stacked members put an axis in front of all."""

    obs: Float[Tensor, "*batch obs"]
    action: Float[Tensor, "*batch action"]
    reward: Float[Tensor, "*batch"]
    next_obs: Float[Tensor, "*batch obs"]
    terminated: Bool[Tensor, "*batch"]


class Replay:
    """A ring of transitions.

    Args:
        capacity: transitions kept, of each member.
        obs_dim: width of an observation.
        action_dim: width of an action.
        members: how many replays there are, side by side.
        device: where they are kept.
        dtype: of what is kept.
    """

    def __init__(
        self,
        capacity: int,
        obs_dim: int,
        action_dim: int,
        *,
        members: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity, self.members = capacity, members
        self.widths = [obs_dim, obs_dim, action_dim, 1, 1]
        # Memory that is not written yet is not taken from the system on a CPU.
        self._rows = torch.empty(members, capacity, sum(self.widths), device=device, dtype=dtype)
        self._next = self.size = 0

    def add(
        self,
        obs: Float[Tensor, "members rows obs"],
        action: Float[Tensor, "members rows action"],
        reward: Float[Tensor, "members rows"],
        next_obs: Float[Tensor, "members rows obs"],
        terminated: Bool[Tensor, "members rows"],
    ) -> None:
        """Add transitions, as many for each member; the oldest go when it is full."""
        parts = [obs, next_obs, action, reward.unsqueeze(-1), terminated.unsqueeze(-1)]
        rows = torch.cat([part.to(self._rows) for part in parts], -1)[:, -self.capacity :]
        count = rows.shape[1]
        behind = min(count, self.capacity - self._next)
        self._rows[:, self._next : self._next + behind] = rows[:, :behind]
        if behind < count:
            self._rows[:, : count - behind] = rows[:, behind:]
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def batch(self, places: Tensor) -> Batch:
        """Return the transitions at these places.

        Args:
            places: ``[batch]``, or ``[members, batch]`` where there are several; each in [0, size).
        """
        if self.members > 1:
            offsets = torch.arange(self.members, device=places.device).unsqueeze(1) * self.capacity
            places = places + offsets
        rows = self._rows.flatten(0, 1).index_select(0, places.flatten().to(self._rows.device))
        obs, next_obs, action, reward, ended = torch.split(rows.view(*places.shape, -1), self.widths, -1)
        return Batch(obs, action, reward.squeeze(-1), next_obs, ended.squeeze(-1) > 0.5)

    def state_dict(self) -> dict[str, Any]:
        """Return the slice that is filled, and where the next transition goes."""
        return {"rows": self._rows[:, : self.size].clone(), "next": self._next, "capacity": self.capacity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called.

        Raises:
            ValueError: if the state is of another capacity, of other spaces or of another number of members.
        """
        rows = state["rows"]
        if (rows.shape[0], rows.shape[2]) != (self.members, sum(self.widths)) or state["capacity"] != self.capacity:
            raise ValueError(
                f"the replay must have {self.members} members, rows of {sum(self.widths)} numbers and capacity "
                f"{self.capacity}, got {rows.shape[0]}, {rows.shape[2]} and {state['capacity']}"
            )
        self.size, self._next = rows.shape[1], state["next"]
        self._rows[:, : self.size] = rows.to(self._rows)
