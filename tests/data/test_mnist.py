"""MNIST: idx files to images."""

import struct

import pytest
import torch

from dnicomm.data import load_images, load_mnist, mnist
from dnicomm.errors import UserError

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = mnist.MNIST.files


def test_real_mnist(real):
    real(mnist.MNIST)
    images = load_mnist()
    assert images.train_images.shape == (60_000, 1, 28, 28)
    assert images.test_images.shape == (10_000, 1, 28, 28)
    assert images.train_images.dtype == torch.float32
    assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (images.test_images.min(), images.test_images.max()) == (0, 1)
    assert images.train_images.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert images.train_images.std().item() == pytest.approx(0.3081, abs=1e-4)


@pytest.fixture
def tiny(standin):
    """Four idx files of 3 and 2 images of 2×2, in place of MNIST's."""
    contents = {
        IMAGES: struct.pack(">4B3i", 0, 0, 8, 3, 3, 2, 2) + bytes(range(0, 252, 21)),
        LABELS: struct.pack(">4Bi", 0, 0, 8, 1, 3) + bytes([4, 0, 9]),
        TEST_IMAGES: struct.pack(">4B3i", 0, 0, 8, 3, 2, 2, 2) + bytes([255] * 8),
        TEST_LABELS: struct.pack(">4Bi", 0, 0, 8, 1, 2) + bytes([1, 2]),
    }
    return standin(mnist, "MNIST", contents)


def _check_tiny(images):
    assert images.train_images.shape == (3, 1, 2, 2)
    expected = torch.arange(0, 252, 21, dtype=torch.float32).view(3, 1, 2, 2) / 255
    torch.testing.assert_close(images.train_images, expected)
    assert images.train_labels.tolist() == [4, 0, 9]
    assert images.test_images.eq(1).all()
    assert images.test_labels.tolist() == [1, 2]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["data/mnist", "data", "cache/mnist"])
def test_files_are_found(tiny, tmp_path, monkeypatch, place, suffix):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "data"))
    tiny.write(tmp_path / place, suffix)
    _check_tiny(load_mnist())
    _check_tiny(load_images("mnist"))


def test_download(tiny, site):
    folder, url = site
    tiny.change(url=url)
    tiny.write(folder, ".gz")
    _check_tiny(load_mnist())


def test_absent_without_a_network(tiny):
    says = r"MNIST's .* could not be downloaded.*train-images-idx3-ubyte, .*set DNICOMM_DATA"
    with pytest.raises(UserError, match=says):
        load_mnist()
