"""Labelled images: the digits, loading by name, and splits to choose settings by."""

import pytest
import torch

from dnicomm.data import Images, load_digits, load_images
from dnicomm.errors import UserError


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
    with pytest.raises(UserError, match=r"'mnits'.*Did you mean 'mnist'.*cifar10, digits, mnist"):
        load_images("mnits")


def test_load_images_by_name():
    assert load_images("digits").train_images.shape == (1437, 1, 8, 8)


class TestHeldOut:
    @staticmethod
    def _images():
        return Images(
            torch.arange(20.0).view(20, 1, 1, 1),
            torch.arange(20),
            torch.full((5, 1, 1, 1), 99.0),
            torch.full((5,), 99),
            num_classes=100,
        )

    @pytest.mark.parametrize("n", [1, 6, 19])
    def test_disjoint_and_complete(self, n):
        split = self._images().held_out(n)
        assert split.test_images.shape == (n, 1, 1, 1)
        train, test = split.train_labels.tolist(), split.test_labels.tolist()
        assert sorted(train + test) == list(range(20))  # and no test image
        assert split.num_classes == 100

    def test_labels_stay_with_their_images(self):
        split = self._images().held_out(6)
        assert split.train_images.flatten().equal(split.train_labels.float())
        assert split.test_images.flatten().equal(split.test_labels.float())

    def test_the_split_never_changes(self):
        images = self._images()
        assert images.held_out(6).test_labels.tolist() == [16, 11, 3, 0, 15, 12]
        assert images.held_out(2).test_labels.tolist() == [15, 12]  # the end of the same order

    @pytest.mark.parametrize("n", [-1, 0, 20, 21])
    def test_out_of_range(self, n):
        with pytest.raises(UserError, match=rf"hold out {n} of 20 .* 1 to 19"):
            self._images().held_out(n)
