"""Counting as PettingZoo knows environments (:mod:`dnicomm.envs.counting` says what it is).

At the end of a block ``a_0`` gets 1 if it says how many of the block's digits were odd; at the end
of the episode ``b_0`` gets 1 if it says how many threes there were in all.
"""

from __future__ import annotations

import math
from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.counting import Counting
from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One counting system.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: ``train``, or ``test`` for digits never trained on.
        settings: as of :class:`~dnicomm.envs.counting.Counting`: ``block``, ``blocks``,
            ``irregular``, ``dataset``, ``noise``.
    """

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        counting = Counting(**settings)
        noisy = split == "train" and counting.noise > 0
        bounds = (-math.inf, math.inf) if noisy else (0.0, 1.0)
        super().__init__(counting, "counting_v0", split, bounds, render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
