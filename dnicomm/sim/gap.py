"""What a test loses of what the same agents reach on training worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ERRORS = 4.0  # standard errors from which a gap is no accident
PART = 0.1  # of the larger of both scores, from which it matters


@dataclass(frozen=True)
class Gap:
    """One score of a test beside that on training worlds, neither with learning.

    Args:
        name: of the score.
        test: mean over worlds and episodes.
        training: the same.
        error: standard error of the difference; worlds of one episode have its clocks in common.
    """

    name: str
    test: float
    training: float
    error: float

    @property
    def size(self) -> float:
        """Training less test."""
        return self.training - self.test

    def matters(self) -> bool:
        """Whether it is neither small nor within what chance does."""
        largest = max(abs(self.test), abs(self.training))
        return abs(self.size) > max(ERRORS * self.error, PART * largest)

    def words(self) -> str:
        """What a user may do about it, in one line."""
        return (
            f"{self.name}: test {self.test:.3g}, training {self.training:.3g}, both without "
            "learning: the agents know the training worlds, not the task; try more of them "
            "(num_worlds), noise on what is seen, or message.normalise=own"
        )


def compare_scores(
    test: Mapping[str, Sequence[Tensor]], training: Mapping[str, Sequence[Tensor]]
) -> dict[str, Any]:
    """Metrics of an evaluation, and what to warn of, from scores ``[B]`` an episode by name.

    Scores of training worlds are named ``train_…``; ``train_gap`` is the gap of the first score.
    """
    metrics = {name: torch.cat(list(scores)).mean().item() for name, scores in test.items()}
    for name, scores in training.items():
        metrics[f"train_{name}"] = torch.cat(list(scores)).mean().item()
    warnings = []
    for name in list(test)[:1]:
        gap = measure_gap(name, test[name], training[name])
        metrics["train_gap"] = gap.size
        warnings = [gap.words()] if gap.matters() else []
    return {"metrics": metrics, "warnings": warnings}


def measure_gap(name: str, test: Sequence[Tensor], training: Sequence[Tensor]) -> Gap:
    """The gap between scores ``[B]`` of some episodes and those of others."""
    tested, trained = torch.cat(list(test)).double(), torch.cat(list(training)).double()
    between_worlds = _square_error(tested) + _square_error(trained)
    error = math.sqrt(max(between_worlds, _between_episodes(test, training)))
    return Gap(name, tested.mean().item(), trained.mean().item(), error)


def _square_error(scores: Tensor) -> float:
    return scores.var(unbiased=False).item() / max(len(scores) - 1, 1)


def _between_episodes(test: Sequence[Tensor], training: Sequence[Tensor]) -> float:
    """Squared standard error of the difference from the means of the episodes, pooled."""
    means = [torch.stack([s.double().mean() for s in scores]) for scores in (test, training)]
    freedom = len(test) + len(training) - 2
    if freedom < 1:
        return 0.0
    squares = sum((m - m.mean()).square().sum().item() for m in means)
    return squares / freedom * (1 / len(test) + 1 / len(training))
