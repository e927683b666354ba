"""Speaker and listener: one knows where to go, the other one can go there.

The cooperative communication task of Lowe et al. (2017), in the form of mpe2's
``simple_speaker_listener``, step for step. What there is a part of the speaker's action and of the
listener's observation is left out: messages travel by the simulator's channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.envs.particles import LANDMARKS, ParticleEnv, ParticleWorld
from dnicomm.sim.world import Split

DARK, LIGHT = 0.15, 0.65  # of the three colours by which mpe2 tells landmarks apart


@dataclass
class SpeakerListener(ParticleEnv):
    """Configuration of speaker and listener; arguments as of ``ParticleEnv``."""

    name: str = "speaker_listener"

    def make(self, num_worlds: int, split: Split, device: torch.device) -> SpeakerListenerWorld:
        return SpeakerListenerWorld(self, num_worlds, split, device)


class SpeakerListenerWorld(ParticleWorld):
    """``speaker_0`` sees the goal's colour ``[3]``; ``listener_0`` its velocity and the ways to
    the landmarks ``[8]``, and moves. Both earn minus the squared distance from the goal.
    """

    agents = ("speaker_0", "listener_0")
    edges = (("speaker_0", "listener_0"),)
    bodies = 1

    def observation_shape(self, agent: int) -> tuple[int, ...]:
        return (LANDMARKS,) if agent == 0 else (2 + 2 * LANDMARKS,)

    def observe(self, agents: Sequence[int]) -> Tensor:
        if agents[0] == 1:
            return self.seen()
        goal = F.one_hot(self.goal, LANDMARKS).to(self.position.dtype)
        return DARK + (LIGHT - DARK) * goal

    def earn(self, squared: Tensor) -> Tensor:
        return -squared.expand(len(self.agents), -1)
