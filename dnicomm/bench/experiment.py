"""What an experiment is: something that trains by updates, is tested, kept and resumed.

``dnicomm bench NAME`` composes the keyword arguments of an :class:`Experiment` from
``configs/bench/NAME``, and :func:`dnicomm.bench.training.run` carries it to its end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dnicomm.runs import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from dnicomm.sim.recording import Recorded


class Experiment(ABC):
    """One experiment in one setting; a subclass takes the keys of its configuration.

    Everything random depends on (seed, number of the update) alone, so that a run that was
    resumed equals the run that was never stopped.

    Attributes:
        sample: what is counted in ``samples``: "images", "characters", …
        figure: the metric that its table shows; ``higher_is_better`` says which way.
        steps: updates until the end.
        updates: done so far.
        samples: seen so far.
        stopped: whether there is nothing more to learn (early stopping).
        fallbacks: a line for each thing that is computed otherwise than asked for, because the
            machine can't.
    """

    sample: str
    figure: str
    higher_is_better = True
    steps: int
    updates: int = 0
    samples: int = 0
    stopped: bool = False
    fallbacks: Sequence[str] = ()

    @abstractmethod
    def step(self) -> None:
        """An update, or a few; counts them in ``updates`` and their samples in ``samples``."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Metrics on unseen data, and means of training figures since the last time.

        Training figures are named ``train_…``; how good synthetic gradients are ``cosine``,
        ``relative_error`` and ``norm_ratio``, where the true gradients are known.
        """

    def updates_between(self, every: int) -> int:
        """Updates between evaluations for ``eval.every``; it counts updates if not said."""
        return every

    def record_before(self, update: int) -> None:  # noqa: B027 -- most have no agents
        """Record what happens in the last updates before ``update``, where there are agents."""

    def recorded(self) -> Recorded | None:
        """What was recorded since the last time; None: nothing."""
        return None

    @abstractmethod
    def baseline(self) -> Experiment:
        """The same at its start, learning by backpropagation: what its cost is compared with."""

    def to_middle(self) -> None:  # noqa: B027 -- most need nothing
        """Bring a fresh one to where a step costs what it does in the middle of a run."""

    @abstractmethod
    def moving(self) -> dict[str, Tensor]:
        """Every parameter that has to move in training, by name."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name; the tensors themselves, not copies."""

    def facts(self) -> dict[str, Any]:
        """The rest of what a checkpoint holds, as JSON."""
        return {"updates": self.updates, "samples": self.samples, "stopped": self.stopped}

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take a checkpoint's values back.

        Raises:
            UserError: if they do not fit this setting.
        """

    def finish(self, folder: RunFolder | None) -> dict[str, float]:
        """Metrics of the end alone, e.g. on the test split with the best parameters."""
        return {}

    def close(self) -> None:  # noqa: B027 -- most have no environments
        """Close the environments, if it has any; once it is closed, do nothing."""
