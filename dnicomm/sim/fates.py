"""What becomes of messages on their way: drawn for each channel as an episode begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnicomm.sim.checks import checked_delays, checked_losses
from dnicomm.sim.topology import edge_name

if TYPE_CHECKING:
    from dnicomm.sim.engine import Engine


def fates(engine: Engine) -> tuple[NDArray[np.int64], list[Tensor | None]]:
    """Delays ``[E, T]``, and by channel what is lost, ``[T, B]`` bool; None: nothing."""
    channel, names = engine.channel, [edge_name(*edge) for edge in engine.edges]
    count, worlds = engine.length, engine.world.num_worlds
    delays = np.zeros((len(names), count), dtype=np.int64)
    lost: list[Tensor | None] = [None] * len(names)
    # to make a generator for each channel takes longer than what it draws
    for i, name in enumerate(names if channel.draws_delays else names[:1]):
        drawn = channel.delays(engine.draw("delay", name), count)
        delays[i] = checked_delays(channel, name, drawn, count)
    if not channel.draws_delays:
        delays[:] = delays[:1]
    for i, name in enumerate(names if channel.loses else ()):
        missing = channel.lost(engine.draw("lost", name), (count, worlds))
        missing = checked_losses(channel, name, missing, (count, worlds))
        lost[i] = None if missing is None else torch.from_numpy(missing).to(engine.world.device)
    return delays, lost
