"""What becomes of an agent's message before it is cut and sent: normalised, or made discrete."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dnicomm.errors import UserError


@dataclass(frozen=True)
class Occasion:
    """Who says something, where, and whether in training.

    Args:
        learn: whether this is training.
        members: ``[n]`` of the population; None: all.
        active: ``[n, B]`` bool, worlds in which they speak; None: all.
        noise: ``[n, B, D]`` uniform in (0, 1), for encoders that draw.
        again: the same tick computed once more: nothing is counted twice.
        kept: what an encoder keeps of a tick in case it is computed once more.
    """

    learn: bool
    members: Tensor | None = None
    active: Tensor | None = None
    noise: Tensor | None = None
    again: bool = False
    kept: dict[str, Tensor] = field(default_factory=dict)


class MessageEncoder:
    """Turns what an agent says into what goes on its way; gradients pass through it.

    A subclass writes ``encode``.
    """

    draws = False  # whether encode wants noise in training

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        """Messages ``[n, B, D]`` as they are sent on an occasion."""
        raise NotImplementedError

    def bits(self, message_size: int, bits: int) -> float:
        """Bits in a message of D numbers, where the channel carries ``bits`` a number."""
        return float(message_size * bits)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, by name."""
        return {}


class OwnNormalizer(MessageEncoder):
    """Each message by its own mean and deviation over its D numbers (layer normalisation).

    As sure to be seen as a message that is normalised over the worlds, and the same in training and
    in evaluation: for environments in which what all worlds say changes within an episode, so that
    no constants can stand for a batch's statistics (Ba et al., 2016, without gain and bias).
    """

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        return F.layer_norm(message, message.shape[-1:])


class GumbelSymbol(MessageEncoder):
    """One of D symbols, drawn from the softmax of the message: a straight-through Gumbel-softmax.

    What is sent is one-hot; its gradient is that of the softmax with the same noise (Jang et al.,
    2017; Maddison et al., 2017). In evaluation the likeliest symbol is sent.

    Args:
        temperature: of the softmax that the gradient goes through, above 0.
    """

    draws = True

    def __init__(self, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise UserError(f"message.temperature={temperature}: must be a number above 0")
        self.temperature = temperature

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        scores = message
        if occasion.learn and occasion.noise is not None:
            scores = scores - torch.log(-torch.log(occasion.noise))
        soft = (scores / self.temperature).softmax(-1)
        hard = torch.zeros_like(soft).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)
        return hard + (soft - soft.detach()) if occasion.learn else hard

    def bits(self, message_size: int, bits: int) -> float:
        return math.log2(message_size)


class RegulariseDiscretise(MessageEncoder):
    """DIAL's discretise/regularise unit: each number is a bit (Foerster et al., 2016, section 5.2).

    In training a number m becomes the sigmoid of m with Gaussian noise, which pushes it away from
    the threshold; in evaluation the bit m > 0. Both sides of the threshold agree: the bit is the
    sigmoid without noise, rounded.

    Args:
        noise: standard deviation of the noise, at least 0.
    """

    draws = True

    def __init__(self, noise: float = 2.0) -> None:
        if not noise >= 0:
            raise UserError(f"message.noise={noise}: must be a number of at least 0")
        self.noise = noise

    def encode(self, message: Tensor, occasion: Occasion) -> Tensor:
        if not occasion.learn:
            return (message > 0).to(message.dtype)
        if occasion.noise is not None:
            normal = math.sqrt(2) * torch.erfinv(2 * occasion.noise - 1)
            message = message + self.noise * normal
        return message.sigmoid()

    def bits(self, message_size: int, bits: int) -> float:
        return float(message_size)
