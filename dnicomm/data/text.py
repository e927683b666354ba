"""What every loader of text returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Text:
    """A text as a row of symbols, split into parts to train on, to choose by and to test on.

    Each part is ``[n]`` int64 in ``[0, num_symbols)``, on the CPU, in the order of reading;
    ``symbols[i]`` is what number i stands for.
    """

    train: Tensor
    valid: Tensor
    test: Tensor
    symbols: tuple[str, ...]

    @property
    def num_symbols(self) -> int:
        """How many different symbols there are."""
        return len(self.symbols)
