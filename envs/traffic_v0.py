"""The traffic junction as PettingZoo knows environments (:mod:`dnicomm.envs.traffic` says what it
is).

Each agent is a place for a car, there for the whole episode; its action counts while a car has it,
which ``infos`` says beforehand (``due``). What it sees is zero while there is none.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.traffic import Traffic, TrafficWorld
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One traffic junction.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: makes no difference; nothing is set apart for tests.
        settings: as of :class:`~dnicomm.envs.traffic.Traffic`: ``difficulty``, ``num_agents``,
            ``horizon``, ``arrival``, ``vision``; ``link_range`` and ``message_lifetime`` are for
            channels, and there are none here.
    """

    world: TrafficWorld

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        super().__init__(Traffic(**settings), "traffic_v0", split, (0, 1), render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
