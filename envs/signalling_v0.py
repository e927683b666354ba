"""The signalling game as PettingZoo knows environments (:mod:`dnicomm.envs.signalling`).

Both get 1 at each step at which the listener's action is the object. There are no signals: they
would be a channel.
"""

from __future__ import annotations

from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.signalling import Signalling, SignallingWorld

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One game.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        settings: as of :class:`~dnicomm.envs.signalling.Signalling`: ``attributes``, ``values``,
            ``change``, ``horizon``.
    """

    world: SignallingWorld

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        env = Signalling(**settings)
        super().__init__(env, "signalling_v0", bounds=(0, 1), render_mode=render_mode)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
