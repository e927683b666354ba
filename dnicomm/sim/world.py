"""The contract of an environment: B worlds side by side on one device.

An :class:`Env` is a description (what a configuration names); its :meth:`Env.make` builds the
:class:`World` that is stepped. Time is an integer and starts at 0 in every episode.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Split = Literal["train", "test"]


@dataclass(frozen=True)
class AgentSpaces:
    """What one agent sees and does in a world."""

    observation_shape: tuple[int, ...]
    action_size: int = 0  # 0: the agent only talks
    discrete: bool = True


@dataclass(frozen=True)
class ContextField:
    """A training-time fact that a utility model may see beside the message.

    ``causal`` facts exist when the message is sent; ``hindsight`` facts only later.
    """

    size: int
    kind: Literal["causal", "hindsight"] = "causal"


class Flight(NamedTuple):
    """A message under way, for somebody who looks on."""

    sender: int  # among the world's agents
    receiver: int
    share: float  # of its way that it has behind it, 0 to 1


@dataclass(frozen=True)
class Moment:
    """What somebody who looks on knows of a time beside the world itself."""

    time: int
    ticking: Collection[int] = ()  # agents that tick now
    flights: Sequence[Flight] = ()


class World(abc.ABC):
    """``B = num_worlds`` copies of an environment, stepped together.

    The engine calls, at each time ``t`` of an episode: :meth:`observe`, :meth:`labels` and
    :meth:`act` for the agents due at ``t``, then :meth:`step` once. Between ticks an agent's last
    action holds; before its first tick the world's own idle action does.
    """

    agents: tuple[str, ...]
    num_worlds: int
    device: torch.device
    horizon: int  # longest episode, in world time
    early_end: bool = False  # whether a world may end before the horizon
    rewards: bool = False  # whether step() returns rewards to learn from
    context_fields: Mapping[str, ContextField] = {}
    default_context: tuple[str, ...] = ()
    label_field: str | None = None  # context field that holds the receivers' label, one-hot
    edges: tuple[tuple[str, str], ...] | None = None  # its natural channels; None: all to all
    message_lifetime: int | None = None  # world time after which mail is unseen; None: no limit
    draws_globally: bool = False  # whether numbers from global generators, seeded by runs, will do
    remarks: Sequence[str] = ()  # what the user should know of it; a run says it once
    hears_at_birth: bool = False  # whether what was sent to a place before a life began is heard

    @abc.abstractmethod
    def spaces(self, agent: str) -> AgentSpaces:
        """What ``agent`` sees and does."""

    @abc.abstractmethod
    def reset(self, episode: int, rng: np.random.Generator) -> None:
        """Begin an episode in every world; all that is random follows from ``rng``."""

    @abc.abstractmethod
    def observe(self, agents: Sequence[int]) -> Tensor:
        """Observations of agents with equal shapes, ``[n, B, *observation_shape]`` float32."""

    @abc.abstractmethod
    def act(self, agents: Sequence[int], actions: Tensor, active: Tensor | None) -> None:
        """Set the actions that hold from now on.

        Args:
            agents: indices of the agents that ticked.
            actions: ``[n, B]`` int64 (discrete) or ``[n, B, action_size]`` float.
            active: ``[n, B]`` bool, worlds in which they ticked; None: all.
        """

    @abc.abstractmethod
    def step(self) -> Tensor | None:
        """One unit of world time; rewards ``[num_agents, B]`` float32, or None where none."""

    def allowed(self, agents: Sequence[int]) -> Tensor | None:
        """Discrete actions that agents may take now, ``[n, B, action_size]`` bool; None: all.

        Where a row allows none, nothing is known of it, and all are.
        """
        return None

    def labels(self, agents: Sequence[int]) -> Tensor | None:
        """Right answers at this time, ``[n, B]`` int64 (-1: none); None: no labels at all.

        Those of continuous actions are ``[n, B, action_size]`` float32 (NaN: none).
        """
        return None

    def context(self, field: str) -> Tensor:
        """A fact of ``context_fields`` at this time, ``[B, size]`` float32."""
        raise KeyError(field)

    def score(self) -> dict[str, Tensor]:
        """What the episode reached, by name, ``[B]`` each; called once it has ended."""
        return {}

    def close(self) -> None:  # noqa: B027 -- most hold nothing
        """Release what the worlds hold beside memory: processes, ports, windows, licences.

        A simulation calls it once, when it is closed itself or dropped, or where building it fails.
        """

    def complaints(self) -> Sequence[str]:
        """What is wrong with the environment so far, with counts; an evaluation repeats it."""
        return ()

    # -- looking on: optional --------------------------------------------------------------------

    def draw(self, index: int, moment: Moment) -> NDArray[np.uint8] | None:
        """World number ``index`` as a picture ``[H, W, 3]`` at this time; None: it has none."""
        return None

    def text(self, index: int) -> str | None:
        """World number ``index`` as lines of text at this time; None: it has no such picture."""
        return None

    # -- time: an environment may own the schedule, restrict it, and open and close channels ----

    def episode_length(self) -> int:
        """World time of the current episode, at most ``horizon``; known at reset."""
        return self.horizon

    def schedule(self) -> Mapping[str, Sequence[int]] | None:
        """Tick times by agent in the current episode, where the environment owns them all."""
        return None

    def window_ends(self, agent: str) -> Sequence[int] | None:
        """Times whose end closes ``agent``'s window in this episode; None: no preference."""
        return None

    def active(self) -> Tensor | None:
        """``[num_agents, B]`` bool: who is there and may act now; None: everybody."""
        return None

    def open_edges(self, senders: Sequence[int], receivers: Sequence[int]) -> Tensor | bool:
        """Which channels take a message sent now: ``[E, B]`` bool, or the same for all."""
        return True

    def alive(self) -> Tensor | None:
        """``[num_agents, B]`` bool: who may still get rewards; None: everybody.

        The others have no future. It differs from :meth:`active` where agents wait for their turn.
        """
        return self.active()

    def truncated(self) -> Tensor | None:
        """``[num_agents, B]`` bool: whose life the last step cut off; None: nobody's.

        They are not :meth:`alive` any more, but only a limit of time says so: what would have
        followed is worth what they expect of their last observation, messages and state (Pardo et
        al., 2018, "Time limits in reinforcement learning"). For all others who are not alive
        nothing follows.
        """
        return None

    def refresh(self, agents: Sequence[int]) -> None:  # noqa: B027 -- most need none
        """Have :meth:`observe` show ``agents`` the present, whether or not they may act now.

        It is called before they are asked what they expect of what follows. Default: it does so
        anyway.
        """

    def reborn(self) -> Tensor | None:
        """``[num_agents, B]`` bool: who begins a new life at this time; None: nobody.

        Their states start anew, what was sent before does not reach them (unless
        ``hears_at_birth``), and no reward is credited across. It is asked after a step and again
        before the next ticks: the answer is one.
        """
        return None

    def ended(self) -> Tensor | None:
        """``[B]`` bool: worlds whose episode is over; None where none ends early.

        Nothing follows a true end. Where this is None, the end of :meth:`episode_length` is one.
        A world that says it has not ended then is cut off, and agents' values stand for what would
        have followed; so they do for those whom :meth:`truncated` names.
        """
        return None


class Env(abc.ABC):
    """A description of an environment, as a configuration names it."""

    name: str
    eval_worlds: int | None = None  # worlds that together show the whole test split

    @abc.abstractmethod
    def make(self, num_worlds: int, split: Split, device: torch.device) -> World:
        """Build ``num_worlds`` worlds. ``split`` chooses data never trained on for ``test``."""
