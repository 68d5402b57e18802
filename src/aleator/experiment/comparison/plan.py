"""The grid of a comparison: variants × seeds × sizes × tuned values, each one a run with an identity and a folder.

    runs = {(variant, size, value, seed)}

A seed is given to every variant, so that what a variant does not change draws the same random numbers (common random
numbers) and differences are paired. Every variant gets the same tuned values, so that none wins by having been tried
more often. Seeds are the outer loop: a comparison that was interrupted has whole pairs.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.experiment.identity import identity, options_of
from aleator.experiment.options import RunOptions
from aleator.experiment.registry import did_you_mean

_log = logging.getLogger("aleator.experiment")

SIZE_FIELD = "train_size"


@dataclass(frozen=True)
class Variant:
    """One of the things compared.

    Attributes:
        name: what the report calls it.
        recipe: a recipe with all of its options set.
        changed: the options in which it differs from the others' common base, for the record.
    """

    name: str
    recipe: Any
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        variant: name of the variant.
        recipe: the variant's recipe with the run's size and tuned value in it.
        options: of the run, with its seed.
        size: the training size set by the comparison, or None.
        tuned: the field that is tuned and its value in this run; empty when nothing is tuned.
        identity: see `aleator.experiment.identity.identity`.
        folder: name of its folder inside the comparison's ``runs``.
    """

    variant: str
    recipe: Any
    options: RunOptions
    size: int | None
    tuned: Mapping[str, Any]
    identity: str
    folder: str

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.options.seed

    @property
    def label(self) -> str:
        """What messages call the run."""
        return f"{self.variant} seed {self.seed}{_suffix(self.size, self.tuned, ' ')}"


def plan_runs(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    name: str,
    options: RunOptions,
    sizes: Sequence[int] | None = None,
    tune: tuple[str, Sequence[Any]] | None = None,
) -> list[PlannedRun]:
    """Return every run of a comparison, seeds first.

    Args:
        variants: what is compared; the first one is the baseline.
        seeds: one run per seed for each variant, size and tuned value.
        name: the recipe's registered name, or ``path/to/file.py:Class``.
        options: of every run; the seed in it is replaced.
        sizes: training sizes, put into the recipe's field ``train_size``. None leaves the field as it is.
        tune: a field and the values to try in every variant, or None.

    Raises:
        ValueError: for an empty list or a repeated entry, a field that the recipe lacks or that a variant sets too, a
            value that the recipe refuses, or two variants whose folders would have one name.
    """
    _check_distinct("variants", [variant.name for variant in variants])
    _check_distinct("seeds", seeds)
    if sizes is not None:
        _check_distinct("sizes", sizes)
        if min(sizes) < 1:
            raise ValueError(f"sizes must be at least 1, got {min(sizes)}")
    if tune is not None:
        _check_distinct(f"the values of {tune[0]}", tune[1])
    _check_folder_names(variants)
    _remark_equal(variants)
    for field in ([SIZE_FIELD] if sizes is not None else []) + ([tune[0]] if tune is not None else []):
        _check_field(variants, field, name)
    seeded = [options.with_seed(seed) for seed in seeds]
    return list(_grid(variants, seeded, name, sizes, tune))


def _grid(
    variants: Sequence[Variant],
    seeded: Sequence[RunOptions],
    name: str,
    sizes: Sequence[int] | None,
    tune: tuple[str, Sequence[Any]] | None,
) -> Iterator[PlannedRun]:
    trials: list[dict[str, Any]] = [{}] if tune is None else [{tune[0]: value} for value in tune[1]]
    trained_on: list[int | None] = [None] if sizes is None else list(sizes)
    for options, size, variant, tuned in itertools.product(seeded, trained_on, variants, trials):
        fields = tuned if size is None else {SIZE_FIELD: size, **tuned}
        try:
            recipe = dataclasses.replace(variant.recipe, **fields)
        except ValueError as error:
            raise ValueError(f"variant {variant.name!r}: {error}") from None
        digits = identity(name, recipe, options, size)
        folder = f"{_slug(variant.name)}-seed{options.seed}{_slug(_suffix(size, tuned, '-'))}-{digits[:8]}"
        yield PlannedRun(variant.name, recipe, options, size, tuned, digits, folder)


def _suffix(size: int | None, tuned: Mapping[str, Any], separator: str) -> str:
    parts = [f"size{separator.strip('-')}{size}"] if size is not None else []
    parts += [f"{field}={value}" for field, value in tuned.items()]
    return "".join(separator + part for part in parts)


def _slug(text: str) -> str:
    """Return text that is a folder's name on every system."""
    return re.sub(r"[^\w.+=-]+", "-", text, flags=re.ASCII)[:80]


def _check_distinct(what: str, values: Sequence[Any]) -> None:
    if not values:
        raise ValueError(f"{what} must hold at least one entry, got none")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{what} must be distinct, got {value!r} twice")


def _remark_equal(variants: Sequence[Variant]) -> None:
    """Say which variants are the same under two names: their difference is none."""
    seen: dict[str, str] = {}
    for variant in variants:
        options = json.dumps(options_of(variant.recipe), sort_keys=True)
        if options in seen:
            _log.warning("variants %r and %r have the same options", seen[options], variant.name)
        seen.setdefault(options, variant.name)


def _check_folder_names(variants: Sequence[Variant]) -> None:
    seen: dict[str, str] = {}
    for variant in variants:
        if not variant.name.strip():
            raise ValueError("a variant needs a name, got an empty one")
        folder = _slug(variant.name).lower()  # some file systems do not tell A from a
        if folder in seen:
            raise ValueError(f"variants {seen[folder]!r} and {variant.name!r} would share a folder; rename one of them")
        seen[folder] = variant.name


def _check_field(variants: Sequence[Variant], field: str, name: str) -> None:
    for variant in variants:
        accepted = [known.name for known in dataclasses.fields(variant.recipe)]
        if field not in accepted:
            hint = did_you_mean(field, accepted)
            raise ValueError(f"recipe {name!r} has no option {field!r}{hint} (options: {', '.join(accepted)})")
        if field in variant.changed:
            raise ValueError(f"variant {variant.name!r} sets {field}, which the comparison sets for every variant")


def run_folder(out: Path, run: PlannedRun) -> Path:
    """Return the folder of a run of the comparison in ``out``."""
    return out / "runs" / run.folder
