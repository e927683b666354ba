"""Predator-prey as PettingZoo knows environments.

:mod:`dnicomm.envs.predator_prey` says what it is. What predators tell each other is no part of it.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.predator_prey import PredatorPrey, PredatorPreyWorld
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One grid.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: ``train`` or ``test``; worlds are drawn in the same way.
        settings: as of :class:`~dnicomm.envs.predator_prey.PredatorPrey`: ``num_agents``, ``dim``,
            ``vision``, ``horizon``, ``mode``, ``moving_prey``, ``link_range`` (no effect here).
    """

    world: PredatorPreyWorld

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        env = PredatorPrey(**settings)
        super().__init__(env, "predator_prey_v0", split, (0, env.num_agents), render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
