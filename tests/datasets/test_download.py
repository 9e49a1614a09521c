"""Downloads, from a server on this machine that answers as the mirrors of the world do."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hypermap.core.errors import UserError
from hypermap.core.paths import DOWNLOADS
from hypermap.datasets import download

NAME = "train-labels-idx1-ubyte.gz"
CONTENT = gzip.compress(bytes(range(256)) * 500, mtime=0) + bytes(1000)


class Mirror(SimpleHTTPRequestHandler):
    """``/cut/`` promises more bytes than it sends; the rest are files."""

    def do_GET(self):
        if not self.path.startswith("/cut/"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of the mirrors; files are served from ``served/``."""
    served = tmp_path / "served"
    for folder, content in {"good": CONTENT, "wrong": b"x" * 1000, "half": CONTENT[:50]}.items():
        (served / folder).mkdir(parents=True)
        (served / folder / NAME).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setitem(download.MD5, "mnist", {NAME: hashlib.md5(CONTENT).hexdigest()})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def mirrors(server, monkeypatch):
    def use(*names):
        monkeypatch.setitem(download.MIRRORS, "mnist", tuple(f"{server}/{name}/" for name in names))

    return use


def left_behind():
    return sorted(path.name for path in Path("data").rglob("*") if path.is_file())


def test_a_file_is_downloaded_once(mirrors):
    mirrors("good")
    (path,) = download.locate("mnist", [NAME], None)
    assert path == Path("data/raw/mnist") / NAME
    assert path.read_bytes() == CONTENT
    mirrors()  # from here on, every download would fail
    assert download.locate("mnist", [NAME], None) == [path]


@pytest.mark.parametrize("bad", ["missing", "wrong", "half", "cut"])
def test_the_second_mirror_is_tried_when_the_first_fails(mirrors, bad, capfd):
    mirrors(bad, "good")
    (path,) = download.locate("mnist", [NAME], None)
    assert path.read_bytes() == CONTENT
    assert left_behind() == [NAME]
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split(" from ")[0] for line in err.splitlines()] == [f"Downloading {NAME}"] * 2  # and no bar


@pytest.mark.parametrize("bad", ["missing", "wrong", "half", "cut"])
def test_when_all_mirrors_fail_all_are_named_and_nothing_stays(mirrors, server, bad):
    mirrors(bad, "missing")
    with pytest.raises(UserError) as told:
        download.locate("mnist", [NAME], None)
    for word in [f"{server}/{bad}/{NAME}", f"{server}/missing/{NAME}", "404", "data.root", "HYPERMAP_DATA"]:
        assert word in str(told.value)
    assert left_behind() == []


def test_a_mirror_that_is_not_there_is_a_failure_like_another(server, monkeypatch):
    monkeypatch.setitem(download.MIRRORS, "mnist", ("http://127.0.0.1:9/", f"{server}/good/"))
    assert download.download("mnist", NAME).read_bytes() == CONTENT


def test_a_damaged_download_is_fetched_again(mirrors):
    mirrors("good")
    path = DOWNLOADS / "mnist" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:100])
    assert download.locate("mnist", [NAME], None)[0].read_bytes() == CONTENT


def test_a_damaged_download_stays_as_it_was_when_no_mirror_answers(mirrors):
    mirrors("missing")
    path = DOWNLOADS / "mnist" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(UserError, match="could not be downloaded"):
        download.locate("mnist", [NAME], None)


def test_nothing_is_downloaded_into_a_users_folder(mirrors, tmp_path):
    mirrors("good")
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(UserError, match=NAME):
        download.locate("mnist", [NAME], "mine")
    assert list(mine.iterdir()) == []
    assert not Path("data").exists()


def test_every_published_file_has_a_mirror_and_a_checksum():
    for dataset, mirrors in download.MIRRORS.items():
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in mirrors)
        assert {len(md5) for md5 in download.MD5[dataset].values()} == {32}
    assert download.MIRRORS.keys() == download.MD5.keys()
