"""The predictor and the target rate of a row, by the name of its script or language.

Two choices that do not depend on each other: α belongs to a script or a language; a predictor to a script, a language
or all. All of it is known to the host, so nothing here waits for a device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from torch import nn

Routing = Literal["script", "language", "shared"]


class Scripts:
    """Names, rates and predictors.

    Args:
        rates: α of each script, and of the languages that have their own.
        languages: the script of each language.
        routing: who shares a predictor.

    Attributes:
        rates: α of every name that a row may have.

    Raises:
        ValueError: if there is no script, an α is not in (0, 1), or a language's script has none.
    """

    rates: dict[str, float]

    def __init__(self, rates: Mapping[str, float], languages: Mapping[str, str], routing: Routing) -> None:
        if routing not in get_args(Routing):
            raise ValueError(f'routing must be "script", "language" or "shared", got {routing!r}')
        if not rates:
            raise ValueError("scripts must name at least one script and its rate, got none")
        for name, rate in rates.items():
            if not 0 < rate < 1:
                raise ValueError(f"the rate of {name} must be in (0, 1), got {rate}")
        for language, script in languages.items():
            if script not in rates:
                raise ValueError(f"the script of {language} must be one of {', '.join(rates)}, got {script!r}")
        self.rates = {**{language: rates[script] for language, script in languages.items()}, **rates}
        for name in self.rates:
            # A predictor is kept under this name in an `nn.ModuleDict`.
            if not name or "." in name or hasattr(nn.ModuleDict, name):
                raise ValueError(f"names of scripts must not be empty, have a dot or be one of torch's, got {name!r}")
        self._languages, self._routing = languages, routing

    def initial_rates(self) -> dict[str, float]:
        """Return for each predictor the mean α of the names that it serves."""
        served: dict[str, list[float]] = {}
        for name, rate in self.rates.items():
            served.setdefault(self._key(name), []).append(rate)
        return {key: sum(rates) / len(rates) for key, rates in served.items()}

    def rows_by_predictor(self, names: Sequence[str], count: int) -> dict[str, list[int]]:
        """Return for each predictor that a batch needs the rows it serves, in their order.

        Raises:
            ValueError: if a name is unknown or there is not one for each row.
        """
        if isinstance(names, str) or len(names) != count:
            raise ValueError(f"scripts must name one for each of {count} rows, got {names!r}")
        routes: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name not in self.rates:
                raise ValueError(f"script must be one of {', '.join(self.rates)}, got {name!r}")
            routes.setdefault(self._key(name), []).append(row)
        return routes

    def _key(self, name: str) -> str:
        if self._routing == "shared":
            return "shared"
        return self._languages.get(name, name) if self._routing == "script" else name
