"""The acts of a run together: who answers, in which order, and what cannot be used together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from aleator.recipes.parts.part import Act, Descent, answers, parts_of, recipes_with_act
from aleator.recipes.parts.run import Run

# What acts say that only one of them may say, in words.
_ALONE = {
    "kept": "which examples are kept",
    "ordered": "which example is next",
    "sized": "how many examples a batch has",
    "scheduled": "the learning rate",
    "descent": "how a batch becomes a step",
}
# The phases for which a descent needs a place.
_PLACES = {
    "after_piece": "piece",
    "observe": "observe",
    "transform": "transform",
    "weights": "weights",
    "penalty": "weights",
}


class Acts:
    """The acts of a recipe's parts that are switched on, in the order of the parts' names.

    Args:
        run: that they take part in.

    Raises:
        ValueError: if two of them answer what only one can.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        found: dict[str, Act | None] = {}
        for part in (*parts_of(type(run.options)), *recipes_with_act(type(run.options))):
            if part.__name__ in found:
                raise ValueError(f"{type(run.options).__name__} has two parts named {part.__name__}; rename one")
            found[part.__name__] = part.act(run.options, run)
        self.by_name: dict[str, Act] = {name: act for name, act in sorted(found.items()) if act is not None}

    def __iter__(self) -> Iterator[Act]:
        """Yield the acts."""
        return iter(self.by_name.values())

    def one(self, phase: str, *given: Any) -> Any:
        """Return the only answer that is not None; None where nobody answers.

        Raises:
            ValueError: if there are two answers.
        """
        said = {name: getattr(act, phase)(*given) for name, act in self.by_name.items()}
        said = {name: answer for name, answer in said.items() if answer is not None}
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} cannot be used together: both say {_ALONE[phase]}")
        return next(iter(said.values()), None)

    def of(self, phase: str) -> list[Any]:
        """Return the methods of those that do something in a phase."""
        return [getattr(act, phase) for act in self if answers(act, phase)]

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network as all parts want it, each in a random stream of its own."""
        for name, act in self.by_name.items():
            with self._run.streams.scope("wrapped", name):
                network = act.wrapped(network)
        return network

    def lr_ratio(self, name: str) -> float:
        """Return the product of the ratios for a parameter."""
        ratio = 1.0
        for act in self:
            ratio *= act.lr_ratio(name)
        return ratio

    def through(self, phase: str, value: Any) -> Any:
        """Return a value after each part has had it."""
        for act in self:
            value = getattr(act, phase)(value)
        return value

    def weights(self, batch: Any) -> Tensor | None:
        """Return the product of the weights of a batch's examples; None where nobody weighs."""
        product: Tensor | None = None
        for act in self:
            weights = act.weights(batch)
            if weights is not None:
                product = weights if product is None else product * weights
        return product

    def merged(self, phase: str) -> dict[str, Any]:
        """Return what all parts say by name."""
        found: dict[str, Any] = {}
        for act in self:
            found |= getattr(act, phase)()
        return found

    def check_places(self, descent: Descent, name: str) -> None:
        """Refuse acts for which a descent has no place.

        Raises:
            ValueError: naming both.
        """
        for phase, capability in _PLACES.items():
            for own, act in self.by_name.items():
                if answers(act, phase) and capability not in descent.honours:
                    raise ValueError(f"{own} cannot be used with {name}, which has no place for {phase}")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Switch all parts off for a block."""
        with ExitStack() as stack:
            for act in self:
                stack.enter_context(act.aside())
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return the memories by the names of the parts."""
        return {name: act.state_dict() for name, act in self.by_name.items() if answers(act, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put memories back.

        Raises:
            ValueError: if the state was saved with other parts.
        """
        own = self.state_dict().keys()
        if own != state.keys():
            raise ValueError(
                f"the saved state comes from the parts {', '.join(state) or 'none'}, "
                f"this run has {', '.join(own) or 'none'}"
            )
        for name, memory in state.items():
            self.by_name[name].load_state_dict(memory)


def once(hooks: list[Callable[..., object]], *given: Any) -> None:
    """Call every hook."""
    for hook in hooks:
        hook(*given)
