"""Files are fetched whole or not at all, from the first address that has them. The only network is this machine."""

import dataclasses
import hashlib
import http.server
import socketserver
import threading

import pytest

from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import RemoteFile
from aleator.data.sets.files import fetch, files_at, find_root, verify
from aleator.data.sets.load import load

TEXT = "Écoutez !\n".encode() * 20
CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        answers = {
            "/good": (CONTENT, len(CONTENT)),
            "/text": (TEXT, len(TEXT)),
            "/altered": (b"!" + CONTENT[1:], len(CONTENT)),
            "/short": (CONTENT[:-100], len(CONTENT) - 100),
            "/broken": (CONTENT[:-100], len(CONTENT)),  # the connection closes before what was announced
        }
        if self.path not in answers:
            self.send_error(404)
            return
        content, announced = answers[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    requests: list[str]


@pytest.fixture(scope="module")
def running():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(running, monkeypatch):
    """The server, with a data set ``served`` in the catalogue whose one file is to be had at the given paths."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("ALEATOR_DATA", raising=False)
    running.requests.clear()

    def offer(*paths, mirror=()):
        urls = tuple(f"http://127.0.0.1:{running.server_port}{path}" for path in paths)
        file = RemoteFile("file.bin", urls, SHA256, len(CONTENT))
        info = dataclasses.replace(lookup("mnist"), name="served", files=(file,), mirror_files=mirror)
        monkeypatch.setitem(CATALOG, "served", info)

    running.offer = offer
    return running


def test_good_file_is_downloaded_once(server, tmp_path):
    server.offer("/good")
    told = []
    paths = fetch("served", tmp_path / "new", lambda *arguments: told.append(arguments))
    assert paths == [tmp_path / "new/served/file.bin"]
    assert paths[0].read_bytes() == CONTENT
    assert told[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    done = [amount for _, amount, _ in told]
    assert done == sorted(done)
    assert fetch("served", tmp_path / "new") == paths
    assert server.requests == ["/good"]


@pytest.mark.parametrize("bad", ["/missing", "/altered", "/short", "/broken"])
def test_next_address_is_tried_when_one_does_not_give_the_file(server, tmp_path, bad):
    server.offer(bad, "/good")
    (path,) = fetch("served", tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [bad, "/good"]


@pytest.mark.parametrize("bad", ["/missing", "/altered", "/short", "/broken"])
def test_file_that_no_address_gives_leaves_nothing_behind(server, tmp_path, bad):
    server.offer(bad, bad)
    with pytest.raises(ConnectionError, match=r"no address gave .*file\.bin") as error:
        fetch("served", tmp_path)
    assert str(error.value).count(bad) >= 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_altered_download_is_reported_with_both_checksums(server, tmp_path):
    server.offer("/altered")
    with pytest.raises(ConnectionError) as error:
        fetch("served", tmp_path)
    assert SHA256 in str(error.value)
    assert hashlib.sha256(b"!" + CONTENT[1:]).hexdigest() in str(error.value)


def test_unreachable_server_is_one_of_the_reasons(server, tmp_path):
    server.offer("/good")
    file = dataclasses.replace(CATALOG["served"].files[0], urls=("http://127.0.0.1:1/gone",))
    CATALOG["served"] = dataclasses.replace(CATALOG["served"], files=(file,))
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1/gone"):
        fetch("served", tmp_path)


def test_an_offline_fetch_leaves_no_folder_and_says_no_more_than_that(server, tmp_path):
    server.offer("/good")
    file = dataclasses.replace(CATALOG["served"].files[0], urls=("http://127.0.0.1:1/gone",))
    CATALOG["served"] = dataclasses.replace(CATALOG["served"], files=(file,))
    with pytest.raises(ConnectionError) as error:
        fetch("served", tmp_path / "new" / "root")
    path = tmp_path / "new" / "root" / "served" / "file.bin"
    assert str(error.value) == f"no address gave {path}: http://127.0.0.1:1/gone: no connection"
    assert list(tmp_path.iterdir()) == []


def test_an_answer_of_the_server_is_said_in_its_words(server, tmp_path):
    server.offer("/missing")
    with pytest.raises(ConnectionError, match=r"/missing: the server answered 404 "):
        fetch("served", tmp_path)


def test_altered_file_on_disk_is_replaced_only_by_a_right_one(server, tmp_path):
    path = tmp_path / "served/file.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    server.offer("/altered")
    with pytest.raises(ConnectionError):
        fetch("served", tmp_path)
    assert path.read_bytes() == b"old"
    server.offer("/good")
    fetch("served", tmp_path)
    assert path.read_bytes() == CONTENT


def test_folder_that_cannot_be_made_is_bad_input(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    server.offer("/good")
    with pytest.raises(ValueError, match="cannot write to"):
        fetch("served", tmp_path / "file")


def test_embedded_set_has_nothing_to_fetch(tmp_path):
    assert fetch("digits", tmp_path) == []


def test_load_downloads_into_the_cache_and_nowhere_else(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    server.offer("/missing")
    with pytest.raises(FileNotFoundError, match="could not be downloaded; run 'aleator data fetch served'"):
        load("served")
    server.offer("/good")
    with pytest.raises(KeyError):  # the file is there and right, and is not MNIST
        load("served")
    assert (tmp_path / "cache/aleator/served/file.bin").read_bytes() == CONTENT
    server.requests.clear()
    with pytest.raises(FileNotFoundError, match="downloads it there"):
        load("served", tmp_path)
    assert server.requests == []


def test_published_text_is_downloaded_and_read(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    url = f"http://127.0.0.1:{server.server_port}/text"
    file = RemoteFile("input.txt", (url,), hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    info = dataclasses.replace(lookup("tinyshakespeare"), name="served", files=(file,), mirror_files=())
    monkeypatch.setitem(CATALOG, "served", info)
    (domain,) = load("served").domains
    assert (domain.text("train") + domain.text("validation") + domain.text("test")).encode() == TEXT
    assert server.requests == ["/text"]


def test_root_is_the_argument_then_the_environment_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALEATOR_DATA", str(tmp_path / "environment"))
    assert find_root(tmp_path) == (tmp_path, False)
    assert find_root() == (tmp_path / "environment", False)
    monkeypatch.setenv("ALEATOR_DATA", "")
    assert find_root().is_cache


def test_verify_tells_ok_missing_and_altered_apart(server, tmp_path):
    server.offer("/good")
    path = tmp_path / "served/file.bin"
    assert verify("served", tmp_path) == [("served", path, "missing", SHA256, None)]
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    short = hashlib.sha256(CONTENT[:-1]).hexdigest()
    assert verify("served", tmp_path) == [("served", path, "altered", SHA256, short)]
    path.write_bytes(CONTENT)
    assert verify("served", tmp_path) == [("served", path, "ok", SHA256, SHA256)]
    assert server.requests == []


def test_verify_without_a_name_covers_every_file_of_the_catalogue(tmp_path):
    statuses = verify(root=tmp_path)
    assert {status.dataset for status in statuses} == {
        info.name for info in CATALOG.values() if info.files or info.mirror_files
    }
    assert {status.status for status in statuses} == {"missing"}


def test_verify_refuses_an_unknown_name_and_a_missing_root(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        verify("cifar", tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        verify(root=tmp_path / "nowhere")


def test_whole_published_form_wins_over_the_mirrors(server, tmp_path):
    mirror = (RemoteFile("part.npz", (), "0" * 64, 1), RemoteFile("test.npz", (), "1" * 64, 1))
    server.offer("/good", mirror=mirror)
    info, folder = CATALOG["served"], tmp_path / "served"
    assert files_at(info, tmp_path) == info.files
    folder.mkdir()
    (folder / "part.npz").touch()
    assert files_at(info, tmp_path) == mirror
    (folder / "test.npz").touch()
    assert files_at(info, tmp_path) == mirror
    (folder / "file.bin").touch()
    assert files_at(info, tmp_path) == info.files


def test_mirror_may_hold_its_form_in_a_folder_of_another_name(tmp_path):
    info = lookup("grid")
    assert files_at(info, tmp_path) == info.files
    path = tmp_path / "graphs" / "grid.json.gz"
    path.parent.mkdir()
    path.touch()
    assert files_at(info, tmp_path) == info.mirror_files
    assert [(status.file, status.status) for status in verify("grid", tmp_path)] == [(path, "altered")]


def test_shared_mirror_is_whole(data_root):
    assert {status.status for status in verify(root=data_root)} == {"ok"}
