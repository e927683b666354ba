"""CIFAR-10: the binary version's records to images."""

import warnings

import numpy as np
import pytest
import torch

from dnicomm.data import cifar10, files, load_cifar10, load_images
from dnicomm.errors import UserError


def test_real_cifar10(real):
    real(cifar10.CIFAR10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the test batch may be the one with JPEG
        images = load_cifar10()
    assert images.train_images.shape == (50_000, 3, 32, 32)
    assert images.test_images.shape == (10_000, 3, 32, 32)
    assert images.train_images.dtype == images.test_images.dtype == torch.float32
    assert (images.train_images.min(), images.train_images.max()) == (0, 1)
    assert images.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images.test_labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert images.train_labels.bincount().tolist() == [5000] * 10
    assert images.test_labels.bincount().tolist() == [1000] * 10
    means = images.train_images.mean((0, 2, 3), dtype=torch.float64)
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


PIXELS = np.random.RandomState(0).randint(0, 256, (12, 3, 32, 32)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7], np.uint8)


@pytest.fixture
def tiny(standin):
    """Six files of two records each in place of CIFAR-10's."""
    records = np.concatenate([LABELS[:, None], PIXELS.reshape(12, -1)], axis=1)
    contents = {
        name: records[2 * i : 2 * i + 2].tobytes() for i, name in enumerate(cifar10.CIFAR10.files)
    }
    return standin(cifar10, "CIFAR10", contents)


def _check_tiny(images):
    expected = torch.from_numpy(PIXELS).float() / 255
    assert images.train_images.is_contiguous()
    torch.testing.assert_close(images.train_images, expected[:10])
    torch.testing.assert_close(images.test_images, expected[10:])
    assert images.train_labels.tolist() == LABELS[:10].tolist()
    assert images.test_labels.tolist() == LABELS[10:].tolist()
    assert images.train_labels.dtype == torch.int64
    assert images.num_classes == 10


@pytest.mark.parametrize(
    "place", ["data/cifar10", "data", "data/cifar-10-batches-bin", "cache/cifar10"]
)
def test_files_are_found(tiny, tmp_path, monkeypatch, place):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DNICOMM_DATA", str(tmp_path / "data"))
    tiny.write(tmp_path / place)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check_tiny(load_cifar10())
        _check_tiny(load_images("cifar10"))


def test_a_truncated_batch_is_named(tiny, cache):
    tiny.write(cache / "cifar10")
    path = cache / "cifar10" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[: cifar10.RECORD])  # whole records, but one too few
    with pytest.raises(UserError, match=r"truncated.*data_batch_4\.bin.*Replace or delete it"):
        load_cifar10()


def test_absent_without_a_network(tiny):
    with pytest.raises(UserError, match=r"CIFAR-10's .*not be downloaded.*set DNICOMM_DATA"):
        load_cifar10()


def test_the_copy_with_jpeg_is_accepted_with_one_warning(tiny, cache, monkeypatch):
    tiny.write(cache / "cifar10")
    described = dict(tiny.collection.files)
    lossy = described[cifar10.TEST].contents[0]
    described[cifar10.TEST] = files.File((cifar10.OFFICIAL, lossy), cifar10.ARCHIVE)
    tiny.change(files=described)
    monkeypatch.setattr(cifar10, "LOSSY", lossy)
    with pytest.warns(UserWarning, match="JPEG") as caught:
        _check_tiny(load_cifar10())
    (message,) = (str(warning.message) for warning in caught)
    assert "test_batch.bin" in message
    assert "accuracy by at most 0.2 points" in message


def test_what_is_expected_of_the_real_files():
    collection = cifar10.CIFAR10
    assert list(collection.files) == [f"data_batch_{i}.bin" for i in range(1, 6)] + [cifar10.TEST]
    assert {file.download for file in collection.files.values()} == {cifar10.ARCHIVE}
    assert collection.files[cifar10.TEST].contents == (cifar10.OFFICIAL, cifar10.LOSSY)
