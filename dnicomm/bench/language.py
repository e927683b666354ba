"""Penn Treebank, character by character: how little does a short window cost?

The text is one stream cut into ``batch`` rows of equal length, read side by side in windows of T
characters; the state is carried from window to window and its gradient is cut, or synthetic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.bench.checks import choice, whole
from dnicomm.bench.experiment import Experiment
from dnicomm.bench.keeping import load_tensors
from dnicomm.bench.recurrent import RecurrentLearner, check_training, truncated
from dnicomm.data import Text, load_ptb
from dnicomm.errors import UserError
from dnicomm.runs import RunFolder
from dnicomm.sim.random import generator

TEXTS = ("ptb", "made_up")
EXAMINED = 50  # rows in which a text to test on is read
CHUNK = 200  # characters at once in testing
PROBE = 64  # characters over which the true gradient at a boundary is taken


def made_up_text() -> Text:
    """A small text with something to learn in it, for trying things without a file.

    Pairs of letters: the second follows from the first, which is random.
    """
    rng = generator(0, "made up text")
    parts = {}
    for name, pairs in (("train", 4000), ("valid", 500), ("test", 500)):
        first = rng.integers(8, size=pairs)
        pair = np.stack([first, (3 * first + 1) % 8], 1).reshape(-1)
        parts[name] = torch.from_numpy(pair)
    return Text(parts["train"], parts["valid"], parts["test"], tuple("abcdefgh"))


class Language(Experiment):
    """Next-character prediction with early stopping on the validation text.

    Args:
        text: ``ptb`` or ``made_up`` (small, needs no file).
        method: how the net learns; see :class:`RecurrentLearner`.
        window: T, characters between updates.
        width: H of the LSTM.
        batch: rows of text side by side.
        lr: of Adam.
        clip: largest norm of the gradient; None: no clipping.
        autocast: compute in bfloat16 where that is safe, and the device has it.
        validation: characters of the validation text to test on while training; None: all.
        patience: evaluations without a better one after which training stops; None: never.
        characters: seen until the end; ``eval.every`` counts them too.
        seed: of everything random.
        device: where tensors live.

    Raises:
        UserError: if a value is out of range, or the text's files are missing or damaged.
    """

    sample = "characters"
    figure = "valid_bits"
    higher_is_better = False

    def __init__(
        self,
        text: str,
        method: Mapping[str, Any],
        window: int,
        width: int,
        batch: int,
        lr: float,
        clip: float | None,
        autocast: bool,
        validation: int | None,
        patience: int | None,
        characters: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._keys = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        choice("text", text, TEXTS)
        self.window, self.batch = whole("window", window, 1), whole("batch", batch, 1)
        self.patience = patience
        self.steps = max(whole("characters", characters, 1) // (window * batch), 1)
        check_training(width, lr, clip)
        for key, least, value in (("validation", 2, validation), ("patience", 1, patience)):
            if value is not None:
                whole(key, value, least)
        self.device = device
        self.text = load_ptb("characters") if text == "ptb" else made_up_text()
        length = len(self.text.train) // batch
        if window + 1 > length:
            raise UserError(
                f"window={window}: each of the {batch} rows has only {length} characters"
            )
        rows = self.text.train[: length * batch].view(batch, length)
        # each seed begins elsewhere in the text
        shift = int(generator(seed, "shift").integers(length))
        self.rows = rows.roll(-shift, 1).t().contiguous().to(device)  # [length, B]
        self.valid = self.text.valid[:validation]
        classes = self.text.num_symbols
        self.learner = RecurrentLearner(
            classes, classes, width, window, method, lr, clip, autocast, seed, device
        )
        self.fallbacks = self.learner.fallbacks
        self.learner.start(batch)
        self.best = float("inf")
        self.since_best = 0  # evaluations
        moving = self.learner.modules.named_parameters()
        self.best_parameters = {name: value.detach().clone() for name, value in moving}
        self._losses: list[Tensor] = []  # since the last evaluation

    def updates_between(self, every: int) -> int:
        return max(every // (self.window * self.batch), 1)

    def step(self) -> None:
        length = len(self.rows) - 1  # the last character has no successor in its row
        horizon = self.learner.horizon
        begin = (self.updates * self.window) % (length - self.window + 1)
        at = torch.arange(begin, begin + self.window + horizon + 1) % len(self.rows)
        stretch = self.rows[at.to(self.device)]  # [T + W + 1, B]
        targets = stretch[1 : self.window + 1]
        future = stretch[self.window + 1 :]
        losses = self.learner.learn(self._inputs(stretch[: self.window]), targets, future, False)
        self._losses.append(losses.mean())
        self.updates += 1
        self.samples += losses.numel()

    def _inputs(self, characters: Tensor) -> Tensor:
        return F.one_hot(characters, self.text.num_symbols).float()  # [T, B, C]

    def evaluate(self) -> dict[str, float]:
        bits = self._bits(self.valid)
        self.since_best += 1
        if bits < self.best:
            self.best, self.since_best = bits, 0
            for name, value in self.learner.modules.named_parameters():
                self.best_parameters[name].copy_(value.detach())
        self.stopped = self.patience is not None and self.since_best >= self.patience
        train = torch.stack(self._losses).mean().item() if self._losses else math.nan
        self._losses = []
        return {
            "valid_bits": bits,
            "best_valid_bits": self.best,
            "train_loss": train / math.log(2),
            **self._foresight(),
        }

    def _bits(self, text: Tensor) -> float:
        """Bits per character, ``text`` ``[n]`` read in rows from a state of zeros."""
        rows = min(EXAMINED, max(len(text) // 2, 1))
        length = len(text) // rows
        stream = text[: rows * length].view(rows, length).t().to(self.device)  # [L, rows]
        total, state = torch.zeros((), device=self.device, dtype=torch.double), None
        for begin in range(0, length - 1, CHUNK):
            end = min(begin + CHUNK, length - 1)
            losses, state = self.learner.losses(
                self._inputs(stream[begin:end]), stream[begin + 1 : end + 1], state
            )
            total += losses.sum()
        return total.item() / ((length - 1) * rows) / math.log(2)

    def _foresight(self) -> dict[str, float]:
        need = self.window + PROBE + 1
        rows = min(len(self.text.valid) // need, 64)
        if rows == 0:
            return {}
        length = len(self.text.valid) // rows
        stream = self.text.valid[: rows * length].view(rows, length)[:, :need].t().to(self.device)
        return self.learner.foresight(self._inputs(stream[:-1]), stream[1:], [self.window])

    def finish(self, folder: RunFolder | None) -> dict[str, float]:
        """Bits per character of the test text, with the parameters that were best on validation."""
        now = {n: v.detach().clone() for n, v in self.learner.modules.named_parameters()}
        parameters = dict(self.learner.modules.named_parameters())
        with torch.no_grad():
            load_tensors(parameters, self.best_parameters)
            bits = self._bits(self.text.test)
            load_tensors(parameters, now)
        return {"test_bits": bits}

    def baseline(self) -> Language:
        return Language(**self._keys | {"method": truncated(self._keys["method"])})

    def moving(self) -> dict[str, Tensor]:
        return self.learner.moving()

    def tensors(self) -> dict[str, Tensor]:
        best = {f"best.{name}": value for name, value in self.best_parameters.items()}
        return self.learner.tensors() | best

    def facts(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best
        return super().facts() | {"best": best, "since_best": self.since_best}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.learner.restore(tensors)
        load_tensors({f"best.{n}": v for n, v in self.best_parameters.items()}, tensors)
        self.updates, self.samples = facts["updates"], facts["samples"]
        self.stopped, self.since_best = facts["stopped"], facts["since_best"]
        self.best = float("inf") if facts["best"] is None else facts["best"]
