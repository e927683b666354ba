"""Consensus as PettingZoo knows environments (:mod:`dnicomm.envs.consensus` says what it is).

At each step each agent gets minus the squared distance of what it last said from the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.consensus import Consensus, ConsensusWorld
from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One consensus problem.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: makes no difference; nothing is set apart for tests.
        settings: as of :class:`~dnicomm.envs.consensus.Consensus`: ``num_agents``, ``degree``,
            ``horizon``, ``graph``; ``up`` is for channels, and there are none here.
    """

    world: ConsensusWorld

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        env = Consensus(**settings)
        super().__init__(env, "consensus_v0", split, render_mode=render_mode)

    def _rewards(self, acted: Mapping[str, Any]) -> dict[str, float]:
        away = (self.world.estimates - self.world.mean).square()[:, 0]
        return dict(zip(self.possible_agents, (-away).tolist(), strict=True))


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
