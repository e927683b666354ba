"""The environment of :mod:`dnicomm.envs.reference` as PettingZoo knows environments.

mpe2's ``simple_reference`` without words: what agents would say is left to other channels.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.reference import Reference, ReferenceWorld

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One plane.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        settings: as of :class:`~dnicomm.envs.reference.Reference`.
    """

    world: ReferenceWorld

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        super().__init__(Reference(**settings), "reference_v0", render_mode=render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
