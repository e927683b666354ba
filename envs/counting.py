"""Counting: two networks at two time scales.

Agent ``a_0`` sees a digit at every step; at the end of each block it says how many of the block's
digits were odd, and sends a message. Then ``b_0`` ticks, and after the last block it says how many
threes there were: digits that it never saw (paper, section 3.2). Blocks have a fixed length, or one
drawn anew for each block; the environment sets when both agents tick.
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
from dnicomm.errors import UserError
from dnicomm.sim.whole_options import check_whole
from dnicomm.sim.world import AgentSpaces, ContextField, Env, Split

A, B = 0, 1  # indices of the agents


@dataclass
class Counting(Env):
    """Configuration of the counting system.

    Args:
        block: T, digits in a block.
        blocks: blocks in an episode; None: T.
        irregular: whether each block's length is drawn anew, uniformly from T - T/2 to T + T/2.
        dataset: ``digits`` (embedded, 8x8) or ``mnist``.
        noise: standard deviation of noise on the pixels (0 to 1) of training digits.
    """

    block: int = 4
    blocks: int | None = None
    irregular: bool = False
    dataset: str = "digits"
    noise: float = 0.2
    name: str = "counting"
    eval_worlds: int | None = 512

    def __post_init__(self) -> None:
        check_whole(self, {"block": 1, "blocks": 1}, or_null=["blocks"], prefix="env.")
        if (
            isinstance(self.noise, bool)
            or not isinstance(self.noise, int | float)
            or self.noise < 0
        ):
            raise UserError(f"env.noise={self.noise}: must be a number of at least 0")
        if not isinstance(self.irregular, bool):
            raise UserError(f"env.irregular={self.irregular}: must be true or false")

    def make(self, num_worlds: int, split: Split, device: torch.device) -> CountingWorld:
        return CountingWorld(self, num_worlds, split, device)


class CountingWorld(PicturedWorld):
    """B streams of digits; block lengths are the same in all of them.

    The digits of an episode are ``label`` ``[L, B]``; world time t < L shows digit t, and at
    t = L only ``b_0`` is left to answer.
    """

    picture = "counting"
    agents = ("a_0", "b_0")
    edges = (("a_0", "b_0"),)
    default_context = ("threes",)
    label_field = "count"

    def __init__(self, env: Counting, num_worlds: int, split: Split, device: torch.device) -> None:
        images = load_images(env.dataset)
        train = split == "train"
        shown = images.train_images if train else images.test_images
        self.images = shown.flatten(1).to(device)  # [n, pixels]
        self.digits = (images.train_labels if train else images.test_labels).to(device)
        self.num_worlds, self.device = num_worlds, device
        self.noise = env.noise if train else 0.0
        self.block, self.blocks = env.block, env.blocks or env.block
        spread = env.block // 2 if env.irregular else 0
        self.shortest, self.longest = env.block - spread, env.block + spread
        self.horizon = self.blocks * self.longest + 1
        counts = self.blocks * self.longest + 1
        self.context_fields = {
            "threes": ContextField(counts, "causal"),
            "block_threes": ContextField(self.longest + 1, "causal"),
            "count": ContextField(counts, "hindsight"),
        }

    def spaces(self, agent: str) -> AgentSpaces:
        if agent == "a_0":  # pixels, and whether a block begins here
            return AgentSpaces((self.images.shape[1] + 1,), self.longest + 1)
        return AgentSpaces((0,), self.blocks * self.longest + 1)

    # -- time ---------------------------------------------------------------------------------

    def reset(self, episode: int, rng: np.random.Generator) -> None:
        lengths = rng.integers(self.shortest, self.longest + 1, size=self.blocks)
        self.ends = np.cumsum(lengths) - 1  # [blocks] time of each block's last digit
        self.starts = self.ends - lengths + 1
        length = int(lengths.sum())
        index = rng.integers(len(self.digits), size=(length, self.num_worlds))
        self.index = torch.from_numpy(index).to(self.device)  # [L, B]
        self.pixels = self.images[self.index]  # [L, B, pixels]
        if self.noise:
            noise = rng.standard_normal(tuple(self.pixels.shape), dtype=np.float32)
            self.pixels = self.pixels + self.noise * torch.from_numpy(noise).to(self.device)
        label = self.digits[self.index]  # [L, B]
        odd, threes = torch.zeros_like(label), torch.zeros_like(label)
        for start, end in zip(self.starts, self.ends, strict=True):
            block = label[start : end + 1]
            odd[start : end + 1] = (block % 2).cumsum(0)
            threes[start : end + 1] = (block == 3).cumsum(0)
        self.odd, self.block_threes = odd, threes  # [L, B] so far in the block
        self.threes = (label == 3).cumsum(0)  # [L, B] so far
        self.time = 0
        self.answer = torch.full((self.num_worlds,), -1, device=self.device)
        self.a_right = torch.zeros(self.num_worlds, device=self.device)  # blocks counted right

    def episode_length(self) -> int:
        return len(self.index) + 1

    def schedule(self) -> dict[str, Sequence[int]]:
        return {"a_0": range(len(self.index)), "b_0": (self.ends + 1).tolist()}

    def window_ends(self, agent: str) -> Sequence[int]:
        return self.ends.tolist() if agent == "a_0" else [len(self.index)]

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> bool:
        return self.time in self.ends

    # -- what agents see, do and should have done ---------------------------------------------

    def observe(self, agents: Sequence[int]) -> Tensor:
        if agents[0] == B:
            return self.images.new_zeros(1, self.num_worlds, 0)
        # once all digits were shown there is nothing left to see
        shown = self.time < len(self.index)
        pixels = self.pixels[min(self.time, len(self.index) - 1)] * shown
        begins = pixels.new_full((self.num_worlds, 1), float(self.time in self.starts))
        return torch.cat([pixels, begins], 1)[None]

    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        if agents[0] == A:
            if self.time in self.ends:
                right = actions[0] == self.odd[self.time]
                self.a_right += right if active is None else right & active[0]
        else:
            answer = actions[0]
            self.answer = answer if active is None else torch.where(active[0], answer, self.answer)

    def labels(self, agents: Sequence[int]) -> Tensor:
        label = torch.full((1, self.num_worlds), -1, device=self.device)
        if agents[0] == A and self.time in self.ends:
            label = self.odd[self.time][None]
        elif agents[0] == B and self.time == len(self.index):
            label = self.threes[-1][None]
        return label

    def context(self, field: str) -> Tensor:
        final = len(self.index) - 1
        time = final if field == "count" else min(self.time, final)
        counts = self.block_threes if field == "block_threes" else self.threes
        size = self.context_fields[field].size
        return F.one_hot(counts[time], size).to(self.images.dtype)

    def step(self) -> None:
        self.time += 1

    def score(self) -> dict[str, Tensor]:
        right = (self.answer == self.threes[-1]).float()
        return {"accuracy": right, "accuracy_a": self.a_right / self.blocks}
