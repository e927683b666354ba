"""The Penn Treebank: lines to rows of words or of characters."""

import pytest
import torch

from dnicomm.data import load_ptb, ptb
from dnicomm.errors import UserError

# as in the real files, a space on both sides of a line
TRAIN = b" a cat <unk> \n a dog \n"
VALID = b" dog \n"
TEST = b" a  cat \n\n dog"  # two spaces, an empty line, a last line without its newline


@pytest.fixture
def tiny(standin):
    """Three small texts in place of the Penn Treebank's."""
    return standin(ptb, "PTB", dict(zip(ptb.PTB.files, (TRAIN, VALID, TEST), strict=True)))


@pytest.fixture
def found(tiny, cache):
    tiny.write(cache / "ptb")
    return tiny


def _read(text, part):
    return [text.symbols[number] for number in getattr(text, part).tolist()]


def test_words(found):
    text = load_ptb("words")
    assert _read(text, "train") == ["a", "cat", "<unk>", "<eos>", "a", "dog", "<eos>"]
    assert _read(text, "valid") == ["dog", "<eos>"]
    assert _read(text, "test") == ["a", "cat", "<eos>", "<eos>", "dog", "<eos>"]
    assert text.symbols == ("<eos>", "a", "<unk>", "cat", "dog")  # the commonest first
    assert text.num_symbols == 5
    assert text.train.dtype == text.valid.dtype == text.test.dtype == torch.int64


def test_characters(found):
    text = load_ptb("characters")
    assert "".join(_read(text, "train")) == "a_cat_<unk>\na_dog\n"
    assert "".join(_read(text, "valid")) == "dog\n"
    assert "".join(_read(text, "test")) == "a_cat\n\ndog\n"
    assert text.symbols == ("_", "a", "\n", *"<>cdgknotu")
    assert text.num_symbols == 13
    assert text.train.dtype == text.valid.dtype == text.test.dtype == torch.int64


def test_unknown_symbols(found):
    with pytest.raises(UserError, match=r"'word' .*Did you mean 'words'.*characters, words"):
        load_ptb("word")


def test_a_truncated_file_is_named(found, cache):
    path = cache / "ptb" / "ptb.valid.txt"
    path.write_bytes(VALID[:-2])
    with pytest.raises(UserError, match=r"truncated.*ptb\.valid\.txt.*Replace or delete it"):
        load_ptb("words")


def test_download(tiny, site):
    folder, url = site
    tiny.change(url=url)
    tiny.write(folder, ".gz")
    assert _read(load_ptb("words"), "valid") == ["dog", "<eos>"]


def test_absent_without_a_network(tiny):
    with pytest.raises(UserError, match=r"Penn Treebank's .*not be downloaded.*set DNICOMM_DATA"):
        load_ptb("characters")


@pytest.fixture
def real_ptb(real):
    real(ptb.PTB)


@pytest.mark.parametrize(
    ("symbols", "lengths", "num_symbols"),
    [
        ("words", (929_589, 73_760, 82_430), 10_000),
        ("characters", (5_017_482, 393_042, 442_423), 50),
    ],
)
def test_real_sizes(real_ptb, symbols, lengths, num_symbols):
    text = load_ptb(symbols)
    assert (len(text.train), len(text.valid), len(text.test)) == lengths
    assert text.num_symbols == num_symbols
    assert text.train.unique().tolist() == list(range(num_symbols))
    assert min(text.valid.min(), text.test.min()) >= 0


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_characters_are_those_of_the_customary_files(real_ptb, part):
    folder = ptb.PTB.find("ptb.train.txt").parent
    path = folder / f"ptb.char.{part}.txt"
    if not path.is_file():
        pytest.skip(f"there is no {path.name} beside the word files")
    # there, a space separates characters, and `_` is the space between words
    expected = path.read_text(encoding="ascii").replace(" ", "")
    assert "".join(_read(load_ptb("characters"), part)) == expected
