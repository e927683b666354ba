"""The switch riddle as PettingZoo knows environments (:mod:`dnicomm.envs.switch` says what it is).

Everybody gets 1 when somebody rightly tells that all have been in the room, and -1 when somebody
tells it too early. There is no switch: it would be a channel.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.switch import Switch, SwitchWorld
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One prison.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: ``train``, or ``test`` for each sequence of days in turn, where they are few.
        settings: as of :class:`~dnicomm.envs.switch.Switch`: ``num_agents``, ``horizon``,
            ``calendar``.
    """

    world: SwitchWorld

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        super().__init__(Switch(**settings), "switch_v0", split, (0, 1), render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
