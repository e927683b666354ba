"""Data sets: what loads is right, and what cannot load says why."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import pytest
import torch

from dnicomm.data import load_digits, load_images, load_mnist, mnist
from dnicomm.errors import UserError

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = mnist.FILES


def _rows(images):
    return {tuple(row.tolist()) for row in images.flatten(1)}


class TestDigits:
    def test_shapes_types_and_range(self):
        digits = load_digits()
        assert digits.train_images.shape == (1437, 1, 8, 8)
        assert digits.test_images.shape == (360, 1, 8, 8)
        assert digits.train_images.dtype == torch.float32
        assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64
        assert (digits.train_images.min(), digits.train_images.max()) == (0, 1)
        assert digits.num_classes == 10

    def test_no_test_digit_is_trained_on(self):
        digits = load_digits()
        assert not _rows(digits.train_images) & _rows(digits.test_images)

    def test_the_split_never_changes(self):
        digits = load_digits()
        assert digits.test_labels[:12].tolist() == SPLIT
        counts = digits.test_labels.bincount(minlength=10)
        assert counts.min() >= 27

    def test_labels_belong_to_their_images(self):
        digits = load_digits()
        centres = torch.stack(
            [digits.train_images[digits.train_labels == k].mean(0) for k in range(10)]
        )
        nearest = torch.cdist(digits.test_images.flatten(1), centres.flatten(1)).argmin(1)
        assert (nearest == digits.test_labels).float().mean() > 0.85


SPLIT = [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'mnits'.*Did you mean 'mnist'.*digits, mnist"):
        load_images("mnits")


def test_load_images_by_name():
    assert load_images("digits").train_images.shape == (1437, 1, 8, 8)


def test_real_mnist():
    if not all(mnist.find_local(name) for name in mnist.FILES):
        pytest.skip("MNIST is neither in DNICOMM_DATA nor in the cache")
    images = load_mnist()
    assert images.train_images.shape == (60_000, 1, 28, 28)
    assert images.test_images.shape == (10_000, 1, 28, 28)
    assert images.train_images.dtype == torch.float32
    assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (images.test_images.min(), images.test_images.max()) == (0, 1)
    assert images.train_images.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert images.train_images.std().item() == pytest.approx(0.3081, abs=1e-4)


def _md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Four idx files of 3 and 2 images of 2×2, in place of MNIST's; an empty cache, no network."""
    contents = {
        IMAGES: struct.pack(">4B3i", 0, 0, 8, 3, 3, 2, 2) + bytes(range(0, 252, 21)),
        LABELS: struct.pack(">4Bi", 0, 0, 8, 1, 3) + bytes([4, 0, 9]),
        TEST_IMAGES: struct.pack(">4B3i", 0, 0, 8, 3, 2, 2, 2) + bytes([255] * 8),
        TEST_LABELS: struct.pack(">4Bi", 0, 0, 8, 1, 2) + bytes([1, 2]),
    }
    hashes = {
        name: mnist.Md5(_md5(gzip.compress(content, mtime=0)), _md5(content))
        for name, content in contents.items()
    }
    monkeypatch.setattr(mnist, "FILES", hashes)
    monkeypatch.setattr(mnist, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(mnist, "URL", "http://127.0.0.1:1/")  # nothing listens there
    monkeypatch.delenv("DNICOMM_DATA", raising=False)
    return contents


def _write(folder, contents, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        data = gzip.compress(content, mtime=0) if suffix else content
        (folder / (name + suffix)).write_bytes(data)


def _check_tiny(images):
    assert images.train_images.shape == (3, 1, 2, 2)
    expected = torch.arange(0, 252, 21, dtype=torch.float32).view(3, 1, 2, 2) / 255
    torch.testing.assert_close(images.train_images, expected)
    assert images.train_labels.tolist() == [4, 0, 9]
    assert images.test_images.eq(1).all()
    assert images.test_labels.tolist() == [1, 2]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data/mnist", "data", "cache"])
def test_files_are_found(tiny, tmp_path, monkeypatch, place, suffix):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "data"))
    _write(tmp_path / place, tiny, suffix)
    _check_tiny(load_mnist())


def test_a_file_compressed_by_somebody_else_is_the_same_file(tiny, tmp_path):
    _write(tmp_path / "cache", tiny, ".gz")
    (tmp_path / "cache" / f"{IMAGES}.gz").write_bytes(gzip.compress(tiny[IMAGES], 1, mtime=7))
    _check_tiny(load_mnist())


def test_setting_that_is_no_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "typo"))
    with pytest.raises(UserError, match=r"DNICOMM_DATA is set to .*typo, which is not a folder"):
        load_mnist()


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        ("", lambda data: data[:-1]),
        ("", lambda data: data[:-1] + b"\x07"),
        ("", lambda data: b""),
        (".gz", lambda data: data[:-9]),
        (".gz", lambda data: data[:15] + b"\xff\xff\xff" + data[18:]),
        (".gz", lambda data: data[:2]),
        (".gz", lambda data: b"<html>not found</html>"),
        (".gz", lambda data: gzip.compress(b"another file")),
    ],
    ids=["short", "changed", "empty", "gz short", "gz changed", "gz mark", "html", "another"],
)
def test_a_damaged_file_is_named(tiny, tmp_path, suffix, spoil):
    _write(tmp_path / "cache", tiny, suffix)
    path = tmp_path / "cache" / (TEST_LABELS + suffix)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"truncated.*Replace or delete it") as caught:
        load_mnist()
    assert str(path) in str(caught.value)


def test_absent_without_a_network(tiny, tmp_path):
    with pytest.raises(UserError, match=r"could not be downloaded.*set DNICOMM_DATA") as caught:
        load_mnist()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tiny, tmp_path, monkeypatch):
    """A folder that is served in place of the real address."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(mnist, "URL", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()


def test_download_once(tiny, site, tmp_path):
    _write(site, tiny, ".gz")
    _check_tiny(load_mnist())
    for path in site.iterdir():
        path.unlink()
    _check_tiny(load_mnist())  # from the cache
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {f"{f}.gz" for f in tiny}


def test_wrong_download_leaves_nothing(tiny, site, tmp_path):
    _write(site, {name: content + b"?" for name, content in tiny.items()}, ".gz")
    with pytest.raises(UserError, match="could not be downloaded"):
        load_mnist()
    assert list((tmp_path / "cache").iterdir()) == []
