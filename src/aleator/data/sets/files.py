"""Files of data sets on this machine: their place, how they get there, and whether they are what they should be.

A data root holds one folder per data set. It is, in this order: the argument ``root``; the environment variable
``ALEATOR_DATA``; the user's cache folder. The first two are local mirrors, which are read and, by ``fetch`` alone,
written; only into the cache are missing files downloaded without being asked for.

Every file has a known SHA-256. pooch downloads into a temporary file beside the target, and moves it there only when
its checksum is right, so that a file under its own name is never half a file. This module does not load torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import DatasetInfo, RemoteFile

if TYPE_CHECKING:
    from requests.exceptions import RequestException

_LOG = logging.getLogger("aleator.data")

#: Called as ``progress(file name, bytes so far, bytes in all)`` while a file is downloaded.
Progress = Callable[[str, int, int], None]


class FileStatus(NamedTuple):
    """What `verify` found out about one file.

    Attributes:
        dataset: the data set's name.
        file: where the file lies, or should.
        status: ``"ok"``, ``"missing"`` or ``"altered"`` (which a truncated file is too).
        expected: the SHA-256 it should have.
        found: the SHA-256 it has; None for a missing file.
    """

    dataset: str
    file: Path
    status: Literal["ok", "missing", "altered"]
    expected: str
    found: str | None


class DataRoot(NamedTuple):
    """A folder that holds one folder per data set, and whether it is the user's cache."""

    path: Path
    is_cache: bool


def find_root(root: str | os.PathLike[str] | None = None) -> DataRoot:
    """Return the data root: ``root``, else ``ALEATOR_DATA``, else the user's cache folder. It need not exist."""
    given = root if root is not None else os.environ.get("ALEATOR_DATA") or None
    if given is not None:
        return DataRoot(Path(given).expanduser(), is_cache=False)
    import pooch

    return DataRoot(Path(pooch.os_cache("aleator")), is_cache=True)


def existing_root(root: str | os.PathLike[str] | None = None) -> DataRoot:
    """Return the data root, which must exist unless it is the cache.

    Raises:
        FileNotFoundError: if the folder named by ``root`` or ``ALEATOR_DATA`` is not there.
    """
    found = find_root(root)
    if not found.is_cache and not found.path.is_dir():
        source = "root" if root is not None else "ALEATOR_DATA"
        raise FileNotFoundError(
            f"the data folder {found.path} does not exist; {source} must name a folder with one folder per data set"
        )
    return found


def files_at(info: DatasetInfo, root: Path) -> tuple[RemoteFile, ...]:
    """Return the files of the form of a data set that ``root`` holds: as published, or as in a mirror.

    The published form wins when both are whole; a form of which some files are there wins over one of which none is.
    """
    forms = [form for form in (info.files, info.mirror_files) if form]
    count = [sum(info.path(file, root).is_file() for file in form) for form in forms]
    for form, present in zip(forms, count, strict=True):
        if present == len(form):
            return form
    for form, present in zip(forms, count, strict=True):
        if present:
            return form
    return info.files or info.mirror_files


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(name: str, root: str | os.PathLike[str] | None = None, progress: Progress | None = None) -> list[Path]:
    """Download the files of a data set that are missing or altered; a file that is right is left alone.

    Args:
        name: a data set of the catalogue.
        root: the data root to write to, made if it does not exist.
        progress: told about each piece that arrives.

    Returns:
        The paths of the data set's files; none for a set that comes with a dependency.

    Raises:
        ValueError: if no data set has this name, or the folder cannot be written to.
        ConnectionError: if no address gave the file with the right checksum; the message says what each one gave. A
            folder that was made for the file is gone again. The same for a set that only a local mirror has.
    """
    info = lookup(name)
    if info.mirror_files and not info.files:
        raise ConnectionError(_only_in_a_mirror(info))
    folder = find_root(root).path / info.name
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        return [_download(file, folder, progress) for file in info.files]
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror or error}") from None
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty, or not made
                path.rmdir()


def _only_in_a_mirror(info: DatasetInfo) -> str:
    files = ", ".join(f"{info.mirror_folder or info.name}/{file.name}" for file in info.mirror_files)
    return f"{info.name} has no address to download it from; set ALEATOR_DATA to a folder that holds {files}"


def _download(file: RemoteFile, folder: Path, progress: Progress | None) -> Path:
    import pooch
    from requests.exceptions import RequestException

    bar = _Bar(file, progress) if progress is not None else False
    problems = []
    with _quiet_pooch():
        for url in file.urls:
            try:
                downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)
                known = f"sha256:{file.sha256}"
                return Path(pooch.retrieve(url, known, fname=file.name, path=folder, downloader=downloader))
            except RequestException as error:
                problems.append(f"{url}: {_in_words(error)}")
            except ValueError as error:  # the checksum is wrong, pooch names both
                problems.append(f"{url}: {error}")
    raise ConnectionError(f"no address gave {folder / file.name}: " + "; ".join(problems))


def _in_words(error: RequestException) -> str:
    """Say what a failed request is, without the insides of the library that made it."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    words: dict[type[Exception], str] = {
        exceptions.Timeout: "no answer in time",
        exceptions.SSLError: "the server's certificate is not accepted",
        exceptions.ProxyError: "the proxy does not answer",
        exceptions.ChunkedEncodingError: "the connection ended before the file did",
        exceptions.ConnectionError: "no connection",
    }
    return next((text for kind, text in words.items() if isinstance(error, kind)), type(error).__name__)


def checked_files(info: DatasetInfo, root: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Return where the files of a data set lie, by name, after their checksums were compared.

    Only into the cache are missing files downloaded.

    Raises:
        ValueError: if a file is truncated or altered.
        FileNotFoundError: if the folder or one of the files is not there and could not be downloaded.
    """
    base = existing_root(root)
    files = files_at(info, base.path)
    absent = [path for file in files if not (path := info.path(file, base.path)).is_file()]
    if absent and not info.files:
        raise FileNotFoundError(f"{absent[0]} does not exist; {_only_in_a_mirror(info)}")
    if absent and base.is_cache:
        _LOG.info("%s: downloading %.1f MB to %s", info.name, info.size / 1e6, base.path / info.name)
        try:
            fetch(info.name, base.path)
        except ConnectionError as error:
            raise FileNotFoundError(
                f"{absent[0]} is missing and could not be downloaded; run 'aleator data fetch {info.name}' "
                f"where there is a network, or set ALEATOR_DATA to a folder that holds {info.name}/ ({error})"
            ) from error
        files = info.files
    elif absent:
        raise FileNotFoundError(
            f"{absent[0]} does not exist; 'aleator data fetch {info.name} --root {base.path}' downloads it there"
        )
    paths = {file.name: info.path(file, base.path) for file in files}
    for file, path in zip(files, paths.values(), strict=True):
        if (found := sha256(path)) != file.sha256:
            raise ValueError(f"{path} is truncated or altered: expected SHA-256 {file.sha256}, found {found}")
    return paths


def verify(name: str | None = None, root: str | os.PathLike[str] | None = None) -> list[FileStatus]:
    """Compare the checksum of every file of one data set, or of all, with the known one. Nothing is downloaded.

    Raises:
        ValueError: if no data set has this name.
        FileNotFoundError: if the folder named by ``root`` or ``ALEATOR_DATA`` is not there.
    """
    infos = list(CATALOG.values()) if name is None else [lookup(name)]
    path = existing_root(root).path
    return [_status(info, file, info.path(file, path)) for info in infos for file in files_at(info, path)]


def _status(info: DatasetInfo, file: RemoteFile, path: Path) -> FileStatus:
    if not path.is_file():
        return FileStatus(info.name, path, "missing", file.sha256, None)
    found = sha256(path)
    return FileStatus(info.name, path, "ok" if found == file.sha256 else "altered", file.sha256, found)


class _Bar:
    """Makes a `Progress` look like the progress bar that pooch drives."""

    def __init__(self, file: RemoteFile, progress: Progress) -> None:
        self.total = file.size  # pooch overwrites it with what the server announces, 0 when it announces nothing
        self._file, self._progress, self._done = file, progress, 0

    def update(self, amount: int) -> None:
        # pooch reports whole pieces, so the last one can go past the end.
        self._done = min(self._done + amount, self._file.size)
        self._progress(self._file.name, self._done, self._file.size)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    # pooch announces each download on stderr by itself, in the middle of our own progress.
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)
