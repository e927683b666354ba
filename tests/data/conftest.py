"""Stand-ins for data sets: tiny files, an empty cache, and no network but a folder served here."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import threading

import pytest

from dnicomm.data import files


class Standin:
    """A data set of tiny files in place of a module's ``Collection``."""

    def __init__(self, monkeypatch, module, constant, contents):
        self._monkeypatch, self._module, self._constant = monkeypatch, module, constant
        self.contents = contents
        described = {
            name: files.File(
                (f"md5:{md5(content)}",), files.Download(f"{name}.gz", f"md5:{md5(pack(content))}")
            )
            for name, content in contents.items()
        }
        self.change(files=described, url="http://127.0.0.1:1/")  # nothing listens there

    @property
    def collection(self):
        return getattr(self._module, self._constant)

    def change(self, **changes):
        changed = dataclasses.replace(self.collection, **changes)
        self._monkeypatch.setattr(self._module, self._constant, changed)

    def write(self, folder, suffix=""):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / (name + suffix)).write_bytes(pack(content) if suffix else content)


def md5(data):
    return hashlib.md5(data).hexdigest()


def pack(content):
    return gzip.compress(content, mtime=0)


@pytest.fixture
def real(monkeypatch, tmp_path):
    """``real(collection)``: skips unless all its files lie in DNICOMM_DATA; no cache is read."""

    def real(collection):
        folder = os.environ.get(files.VARIABLE, "")
        if not folder or not os.path.isdir(folder):
            pytest.skip(f"{files.VARIABLE} is not set to a folder")
        monkeypatch.setattr(files, "cache_root", lambda: tmp_path / "cache")
        if not all(collection.find(name) for name in collection.files):
            pytest.skip(f"{collection.title} is not in {files.VARIABLE}")

    return real


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and no folder of data."""
    monkeypatch.setattr(files, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.delenv("DNICOMM_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def standin(monkeypatch, cache):
    """``standin(module, constant, contents)`` puts tiny files in place of a data set's."""
    return functools.partial(Standin, monkeypatch)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    """A folder and the address at which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
