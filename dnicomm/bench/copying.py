"""Copy and repeat copy: how long a sequence can a net learn whose windows are short?

A sequence of N binary symbols is read, then written (repeat copy: R times, then an end mark). Once
the error is under 0.15 bits a symbol, the next sequences are longer (paper, section 3.1): copy goes
from N to N + 1; repeat copy raises N and R in turn, from (1, 1) to (2, 1), (2, 2), (3, 2) …
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dnicomm.bench.checks import choice, whole
from dnicomm.bench.experiment import Experiment
from dnicomm.bench.recurrent import RecurrentLearner, check_training, truncated
from dnicomm.errors import UserError
from dnicomm.sim.random import generator

TASKS = ("copy", "repeat_copy")
SYMBOLS = 2
END = SYMBOLS  # class of the end mark
NUM_CLASSES = SYMBOLS + 1
INPUT_SIZE = SYMBOLS + 2  # symbols, a mark where writing begins or reading does, how often
GOAL = 0.15  # bits a symbol (paper, section 3.1)
PATIENCE = 20  # sequences over which the error is a running mean
MOST_REPEATS = 10  # R is shown as R / 10


class Level(NamedTuple):
    """How long the sequences are."""

    symbols: int  # N
    repeats: int  # R

    def harder(self, task: str) -> Level:
        if task == "copy":
            return Level(self.symbols + 1, 1)
        if self.repeats < self.symbols:
            return Level(self.symbols, self.repeats + 1)
        return Level(self.symbols + 1, self.repeats)

    def length(self, task: str) -> int:
        """Steps of a sequence: 2N + 1, or (R + 1)N + 3 as the paper counts repeat copy."""
        if task == "copy":
            return 2 * self.symbols + 1
        return (self.repeats + 1) * self.symbols + 3

    def figure(self, task: str) -> int:
        """What the table shows: N for copy, steps for repeat copy."""
        return self.symbols if task == "copy" else self.length(task)


@dataclass
class Sequences:
    """A batch of them."""

    xs: Tensor  # [L, B, I]
    targets: Tensor  # [L, B] int64, -1 where nothing is asked


def sequences(
    task: str, level: Level, batch: int, rng: np.random.Generator, device: torch.device
) -> Sequences:
    """Random sequences of one level."""
    n, r, length = *level, level.length(task)
    symbols = torch.from_numpy(rng.integers(SYMBOLS, size=(n, batch))).to(device)  # [N, B]
    xs = torch.zeros(length, batch, INPUT_SIZE, device=device)
    targets = torch.full((length, batch), -1, device=device)
    one_hot = torch.nn.functional.one_hot(symbols, SYMBOLS).float()
    if task == "copy":  # N symbols, a mark, N steps to write
        xs[:n, :, :SYMBOLS] = one_hot
        xs[n, :, SYMBOLS] = 1
        targets[n + 1 :] = symbols
    else:  # a mark, N symbols, how often, R·N steps to write, and the end mark
        xs[0, :, SYMBOLS] = 1
        xs[1 : n + 1, :, :SYMBOLS] = one_hot
        xs[n + 1, :, SYMBOLS + 1] = r / MOST_REPEATS
        targets[n + 2 : -1] = symbols.repeat(r, 1)
        targets[-1] = END
    return Sequences(xs, targets)


def windows(length: int, window: int, first: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each window of a sequence; the first one has ``first`` steps."""
    begin, end = 0, first
    while begin < length:
        yield begin, min(end, length)
        begin, end = end, end + window


class Copying(Experiment):
    """The copy tasks with a curriculum.

    The first window of each batch of sequences has a random length, so that boundaries do not
    always fall on the same steps.

    Args:
        task: ``copy`` or ``repeat_copy``.
        method: how the net learns; see :class:`RecurrentLearner`.
        window: T, steps between updates.
        width: H of the LSTM.
        batch: sequences side by side.
        lr: of Adam.
        clip: largest norm of the gradient; None: no clipping.
        autocast: compute in bfloat16 where that is safe, and the device has it.
        steps: updates (windows) until the end.
        seed: of everything random.
        device: where tensors live.

    Raises:
        UserError: if a value is out of range.
    """

    sample = "symbols"
    figure = "longest"

    def __init__(
        self,
        task: str,
        method: Mapping[str, Any],
        window: int,
        width: int,
        batch: int,
        lr: float,
        clip: float | None,
        autocast: bool,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._keys = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.task = choice("task", task, TASKS)
        self.level = Level(1, 1)
        self.window = whole("window", window, 1)
        if window > self.level.length(task) and task == "repeat_copy":
            raise UserError(
                f"window={window}: the first sequences have {self.level.length(task)} steps"
            )
        self.batch, self.steps = whole("batch", batch, 1), whole("steps", steps, 1)
        check_training(width, lr, clip)
        self.seed, self.device = seed, device
        self.learner = RecurrentLearner(
            INPUT_SIZE, NUM_CLASSES, width, window, method, lr, clip, autocast, seed, device
        )
        self.fallbacks = self.learner.fallbacks
        self.sequence = 0  # batches of sequences begun
        self.longest = 0  # figure of the hardest level whose error came under the goal
        self.errors: list[float] = []  # bits a symbol, of the last batches at this level
        self._losses: list[float] = []  # since the last evaluation

    def step(self) -> None:
        """One batch of sequences: an update a window."""
        rng = generator(self.seed, "sequence", self.sequence)
        drawn = sequences(self.task, self.level, self.batch, rng, self.device)
        length, first = len(drawn.xs), int(rng.integers(1, self.window + 1))
        self.learner.start(self.batch)
        losses = []
        for begin, end in windows(length, self.window, first):
            future = drawn.targets[end : end + self.learner.horizon]
            losses.append(
                self.learner.learn(
                    drawn.xs[begin:end], drawn.targets[begin:end], future, end == length
                )
            )
            self.updates += 1
        self.sequence += 1
        self.samples += length * self.batch
        asked = (drawn.targets >= 0).sum()
        self._note((torch.cat(losses).sum() / asked).item() / math.log(2))

    def _note(self, bits: float) -> None:
        self._losses.append(bits)
        self.errors = [*self.errors, bits][-PATIENCE:]
        if len(self.errors) == PATIENCE and sum(self.errors) / PATIENCE < GOAL:
            self.longest = self.level.figure(self.task)
            self.level, self.errors = self.level.harder(self.task), []

    def evaluate(self) -> dict[str, float]:
        rng = generator(self.seed, "probe", 0)
        drawn = sequences(self.task, self.level, 64, rng, self.device)
        losses, _ = self.learner.losses(drawn.xs, drawn.targets)
        bits = (losses.sum() / (drawn.targets >= 0).sum()).item() / math.log(2)
        boundaries = list(range(self.window, len(drawn.xs), self.window))
        train = sum(self._losses) / max(len(self._losses), 1)
        self._losses = []
        return {
            "longest": float(self.longest),
            "level": float(self.level.figure(self.task)),
            "bits": bits,
            "train_loss": train,
            **self.learner.foresight(drawn.xs, drawn.targets, boundaries),
        }

    def baseline(self) -> Copying:
        return Copying(**self._keys | {"method": truncated(self._keys["method"])})

    def to_middle(self) -> None:
        self.level = Level(4, 1) if self.task == "copy" else Level(3, 3)

    def moving(self) -> dict[str, Tensor]:
        return self.learner.moving()

    def tensors(self) -> dict[str, Tensor]:
        return self.learner.tensors()

    def facts(self) -> dict[str, Any]:
        return super().facts() | {
            "level": list(self.level),
            "sequence": self.sequence,
            "longest": self.longest,
            "errors": self.errors,
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.learner.restore(tensors)
        self.updates, self.samples = facts["updates"], facts["samples"]
        self.level, self.sequence = Level(*facts["level"]), facts["sequence"]
        self.longest, self.errors = facts["longest"], list(facts["errors"])
