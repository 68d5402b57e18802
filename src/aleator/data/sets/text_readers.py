"""The texts of the catalogue, from their published files or a local mirror's form of them, to `TextCorpus`.

Where the authors publish a split, it stands. Where they do not, it is fixed here: by bytes for running text, by
sentence for TICO-19, so that what is held out in one language is held out in all.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from aleator.data.permutation import fixed_order
from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import decode_text, read_text, refusing
from aleator.data.sets.texts import ParallelCorpus, TextCorpus, TextDomain, split_text

Paths = dict[str, Path]


def text_corpus(info: DatasetInfo, paths: Paths, notes: tuple[str, ...]) -> TextCorpus:
    """Return the texts that the files of a catalogue entry hold; the files' checksums were compared before.

    Raises:
        ValueError: if a file is not of its format.
    """
    kind = ParallelCorpus if info.reader == "tico" else TextCorpus
    return kind(info.name, tuple(_READERS[info.reader](paths)), notes)


def _read_shakespeare(paths: Paths) -> list[TextDomain]:
    (path,) = paths.values()
    return [TextDomain.from_strings("shakespeare", *split_text(read_text(path), path, (0.05, 0.05)))]


def _read_wikitext(paths: Paths) -> list[TextDomain]:
    if "wikitext-2-v1.zip" in paths:
        path = paths["wikitext-2-v1.zip"]
        members = _unzip(path, ".tokens")
        names = [f"wikitext-2/wiki.{split}.tokens" for split in ("train", "valid", "test")]
        if missing := [name for name in names if name not in members]:
            raise ValueError(f"{path} lacks {', '.join(missing)}")
        train, validation, test = (decode_text(members[name], f"{path}: {name}") for name in names)
    else:
        valid, test = read_text(paths["valid.txt.gz"]), read_text(paths["test.txt.gz"])
        train, validation = split_text(valid, paths["valid.txt.gz"], (0.1,))
    return [TextDomain.from_strings("wikipedia", train, validation, test)]


def _read_udhr(paths: Paths) -> list[TextDomain]:
    (path,) = paths.values()
    domains = []
    for name, content in sorted(_unzip(path, ".txt").items()):
        if content:
            source = f"{path}: {name}"
            splits = split_text(decode_text(content, source), source, (0.1, 0.1))
            domains.append(TextDomain.from_strings(Path(name).stem, *splits))
    return domains


def _read_tico(paths: Paths) -> list[TextDomain]:
    mirror = paths.get("tico19_parallel.tsv.gz")
    table = _tico_table(mirror) if mirror is not None else _tico_units(paths)
    n = len(table["en"])
    order, held_out = fixed_order(n, "aleator.data", "tico19", "split"), round(0.1 * n)
    # Within a split the sentences keep their order, so that it still reads as text.
    splits = [sorted(order[: -2 * held_out]), sorted(order[-2 * held_out : -held_out]), sorted(order[-held_out:])]
    return [
        TextDomain.from_strings(language, *("\n".join(sentences[i] for i in split) for split in splits))
        for language, sentences in table.items()
    ]


def _tico_table(path: Path) -> dict[str, list[str]]:
    """Read the mirror's one table: a column for the unit, one for its domain, one for each language."""
    rows = [line.split("\t") for line in read_text(path).removesuffix("\n").split("\n")]
    languages = rows[0][2:]
    if odd := [number for number, row in enumerate(rows, 1) if len(row) != len(languages) + 2]:
        raise ValueError(f"{path}:{odd[0]}: a row must have {len(languages) + 2} cells, got {len(rows[odd[0] - 1])}")
    return {language: [row[column] for row in rows[1:]] for column, language in enumerate(languages, 2)}


def _tico_units(paths: Paths) -> dict[str, list[str]]:
    """Join the published translation memories, one for each language beside English, by their units."""
    english: dict[str, Counter[str]] = {}
    table: dict[str, list[str]] = {"en": []}  # the first column, filled last
    for name, path in paths.items():
        units = _translation_units(path)
        if english and list(units) != list(english):
            raise ValueError(f"{path} must have the units of {next(iter(paths.values()))}, in their order")
        for unit, (source, _) in units.items():
            english.setdefault(unit, Counter())[source] += 1
        code = name.removeprefix("all.en-").removesuffix(".tmx.zip")
        table[code[:2]] = [target for _, target in units.values()]  # es-LA, pt-BR and ti_ET without their country
    table["en"] = [copies.most_common(1)[0][0] for copies in english.values()]
    return table


def _translation_units(path: Path) -> dict[str, tuple[str, str]]:
    members = list(_unzip(path, ".tmx").values())
    if len(members) != 1:
        raise ValueError(f"{path} must hold one .tmx file, got {len(members)}")
    with refusing(path, "a translation memory", ElementTree.ParseError, ValueError):
        root = ElementTree.fromstring(members[0])
    units: dict[str, tuple[str, str]] = {}
    for unit in root.iter("tu"):
        segments = [" ".join("".join(segment.itertext()).split()) for segment in unit.iter("seg")]
        name = unit.get("tuid", "")
        if len(segments) != 2 or name in units:
            raise ValueError(f"{path}: unit {name!r} must be there once and have two segments, got {len(segments)}")
        units[name] = (segments[0], segments[1])
    return units


def _unzip(path: Path, suffix: str) -> dict[str, bytes]:
    """Return the members of a zip archive whose name ends in ``suffix``, by name."""
    with refusing(path, "a whole zip archive"), zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(suffix)}


_READERS: dict[str, Callable[[Paths], list[TextDomain]]] = {
    "shakespeare": _read_shakespeare,
    "wikitext": _read_wikitext,
    "udhr": _read_udhr,
    "tico": _read_tico,
}
