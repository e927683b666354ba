"""Relay: the first agent is shown a digit, the last one must name it.

An episode shows one digit to the first agent; those between see only messages. The last agent's
answer at the episode's end counts; an agent that no message has reached gives none, which is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.data import load_images
from dnicomm.envs.pictures import PicturedWorld
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split

STEPS_PER_AGENT = 10


@dataclass
class Relay(Env):
    """Configuration of the relay.

    Args:
        num_agents: at least 2; ``agent_0`` sees, the last one answers.
        horizon: world time of an episode; None: 10 for each agent.
        dataset: ``digits`` (embedded, 8x8) or ``mnist``.
    """

    num_agents: int = 4
    horizon: int | None = None
    dataset: str = "digits"
    name: str = "relay"

    def __post_init__(self) -> None:
        check_whole(self, {"num_agents": 2, "horizon": 1}, or_null=["horizon"], prefix="env.")

    def make(self, num_worlds: int, split: Split, device: torch.device) -> RelayWorld:
        return RelayWorld(self, num_worlds, split, device)

    @property
    def eval_worlds(self) -> int:  # type: ignore[override]
        return len(load_images(self.dataset).test_labels)


class RelayWorld(PicturedWorld):
    """B relays, each with its own digit."""

    picture = "relay"
    default_context = ("label",)
    label_field = "label"

    def __init__(self, env: Relay, num_worlds: int, split: Split, device: torch.device) -> None:
        images = load_images(env.dataset)
        shown = (
            (images.train_images, images.train_labels)
            if split == "train"
            else (images.test_images, images.test_labels)
        )
        self.images = shown[0].flatten(1).to(device)  # [n, pixels]
        self.digits = shown[1].to(device)  # [n]
        self.num_classes = images.num_classes
        self.split = split
        self.agents = tuple(f"agent_{i}" for i in range(env.num_agents))
        self.edges = tuple(zip(self.agents[:-1], self.agents[1:], strict=True))
        self.num_worlds, self.device = num_worlds, device
        self.horizon = env.horizon or STEPS_PER_AGENT * env.num_agents
        self.context_fields = {"label": ContextField(self.num_classes)}
        self.last = env.num_agents - 1

    def spaces(self, agent: str) -> AgentSpaces:
        seen = self.images.shape[1:] if agent == self.agents[0] else (0,)
        return AgentSpaces(tuple(seen), self.num_classes if agent == self.agents[-1] else 0)

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        if self.split == "train":
            drawn = rng.integers(len(self.digits), size=self.num_worlds)
        else:  # one after another, so that an episode of enough worlds shows each once
            drawn = (np.arange(self.num_worlds) + episode * self.num_worlds) % len(self.digits)
        index = torch.from_numpy(drawn).to(self.device)
        self.image, self.label = self.images[index], self.digits[index]  # [B, pixels], [B]
        self.answer = torch.full_like(self.label, -1)  # [B]; -1: none yet

    def observe(self, agents: Sequence[int]) -> Tensor:
        if agents[0] == 0:
            return self.image[None]
        return self.image.new_zeros(len(agents), self.num_worlds, 0)

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        answer = actions[list(agents).index(self.last)]
        if active is not None:
            answer = torch.where(active[list(agents).index(self.last)], answer, self.answer)
        self.answer = answer

    def step(self) -> None:
        return None

    def labels(self, agents: Sequence[int]) -> Tensor:
        none = torch.full_like(self.label, -1)
        return torch.stack([self.label if a == self.last else none for a in agents])

    def context(self, field: str) -> Tensor:
        return F.one_hot(self.label, self.num_classes).to(self.image.dtype)

    def score(self) -> dict[str, Tensor]:
        return {
            "accuracy": (self.answer == self.label).float(),
            "answered": (self.answer >= 0).float(),
        }
