"""Downloads from a server of our own on this machine: whole or not at all."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinynet import data
from tinynet.data.download import fetch
from tinynet.errors import DataError

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """What it does with a request depends on the first part of the address."""

    def do_GET(self):
        _, kind, name = self.path.split("/")
        self.server.asked.append(self.path)
        content = self.server.files.get(name)
        if kind == "missing" or content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write({"wrong": content[::-1], "cut": content[: len(content) // 3]}.get(kind, content))

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.files, server.asked = {"file.gz": CONTENT}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.base = f"http://127.0.0.1:{server.server_port}/"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_whole_file(server, tmp_path):
    folder = tmp_path / "a" / "b"
    path = fetch("file.gz", folder, [server.base + "good/"], MD5)
    assert path == folder / "file.gz" and path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]


def test_the_first_mirror_that_delivers_wins(server, tmp_path):
    kinds = ["missing", "wrong", "cut", "good", "good2"]
    path = fetch("file.gz", tmp_path, [server.base + kind for kind in kinds], MD5)
    assert path.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [path]
    assert server.asked == [f"/{kind}/file.gz" for kind in kinds[:4]]


def test_no_mirror_delivers(server, tmp_path):
    closed = "http://127.0.0.1:9/"  # nothing listens there
    with pytest.raises(DataError) as caught:
        fetch("file.gz", tmp_path, [server.base + k for k in ("missing", "wrong", "cut")] + [closed], MD5)
    text = str(caught.value)
    assert text.startswith("cannot fetch file.gz:\n")
    assert "/missing/file.gz: HTTP 404 Not Found" in text
    assert (
        f"/wrong/file.gz: wrong checksum: MD5 {hashlib.md5(CONTENT[::-1]).hexdigest()} instead of {MD5}"
        in text
    )
    assert "/cut/file.gz: interrupted after 85,333 of 256,000 bytes" in text
    assert f"{closed}file.gz: [Errno 111] Connection refused" in text
    assert f"copy the file into {tmp_path} by hand" in text
    assert list(tmp_path.iterdir()) == []


def test_stopped_by_the_user_leaves_nothing_and_the_next_one_starts_clean(server, tmp_path, monkeypatch):
    class Impatient:
        def md5(self, **_):
            return self

        def update(self, block):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tinynet.data.download.hashlib", Impatient())
        with pytest.raises(KeyboardInterrupt):
            fetch("file.gz", tmp_path, [server.base + "good"], MD5)
    assert list(tmp_path.iterdir()) == []
    assert fetch("file.gz", tmp_path, [server.base + "good"], MD5).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=r"cannot write into .*taken.*Give another folder"):
        fetch("file.gz", tmp_path / "taken", [server.base + "good"], MD5)
    assert server.asked == []


def test_mnist_is_fetched_only_when_asked_for(server, shared_data, tmp_path):
    server.files = {path.name: path.read_bytes() for path in (shared_data / "mnist").iterdir()}
    mirrors = [server.base + "missing", server.base + "good"]
    with pytest.raises(DataError, match="not in"):
        data.mnist(tmp_path, "test", mirrors=mirrors)
    assert server.asked == []
    assert len(data.mnist(tmp_path, "test", download=True, mirrors=mirrors)) == 10_000
    assert len(server.asked) == 4
    assert len(data.mnist(tmp_path, "test", download=True, mirrors=mirrors)) == 10_000
    assert len(server.asked) == 4  # what is there is not fetched again


def test_mnist_without_a_network(tmp_path):
    with pytest.raises(
        DataError, match=r"cannot fetch train-images-idx3-ubyte.gz:\n  http://127.0.0.1:9/.*refused"
    ):
        data.mnist(tmp_path, download=True, mirrors=["http://127.0.0.1:9/"])
