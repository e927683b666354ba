"""The relay as PettingZoo knows environments (:mod:`dnicomm.envs.relay` says what it is).

At the end of an episode everybody gets 1 if the last agent's answer is right, else 0; the answer is
the action that it has then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pettingzoo import AECEnv
from pettingzoo.utils.conversions import parallel_to_aec

from dnicomm.envs.exposed import ExposedEnv, in_turns
from dnicomm.envs.relay import Relay
from dnicomm.sim.world import Split

__all__ = ["env", "parallel_env", "raw_env"]


class parallel_env(ExposedEnv):
    """One relay.

    Args:
        render_mode: ``human``, ``rgb_array``, ``ansi`` or None.
        split: ``train``, or ``test`` for digits never trained on.
        settings: as of :class:`~dnicomm.envs.relay.Relay`: ``num_agents``, ``horizon``,
            ``dataset``.
    """

    def __init__(
        self, render_mode: str | None = None, split: Split = "train", **settings: Any
    ) -> None:
        super().__init__(Relay(**settings), "relay_v0", split, (0, 1), render_mode)

    def _rewards(self, acted: Mapping[str, Any]) -> dict[str, float]:
        last_step = self.time == self._length - 1
        reward = float(self.world.score()["accuracy"][0]) if last_step else 0.0
        return dict.fromkeys(self.possible_agents, reward)


def raw_env(**settings: Any) -> AECEnv:
    """The same in turns, without checks of actions; arguments as of :class:`parallel_env`."""
    return parallel_to_aec(parallel_env(**settings))


def env(**settings: Any) -> AECEnv:
    """The same in turns; arguments as of :class:`parallel_env`."""
    return in_turns(parallel_env(**settings))
