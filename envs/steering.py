"""A hand-written policy for points on a plane: what learning agents are measured by.

The speaker says the colour that it sees. Who hears goes to that landmark, and to the middle of all
three until it has heard. How to get there follows from the physics alone: an action holds until
the next tick, so the best push is the one after which the body is expected nearest to its goal
while it holds, and after that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnicomm.envs.particles import DAMPING, DT, FORCE, LANDMARKS, MOVES
from dnicomm.errors import UserError
from dnicomm.sim.agent import Agent, AgentSpec, Inbox, Outcome, State, TickOutput

_LONGEST_HOLD = 14  # world time; longer ones are left out
_LEAD = 0.2  # of the velocity: where a body that goes on for a while is judged to be
_LATER = 3.0  # weight of that place beside a unit of the hold itself


class Steering(Agent):
    """Speaks and steers without learning anything, in ``speaker_listener`` and ``reference``.

    The push that minimises the expected sum of squared distances is linear in the way to the goal
    and the velocity (a quadratic form has no other minimum). The nearest of the five moves is
    taken, or with continuous actions that push itself, within bounds.

    Args:
        rate: of the agent's own Poisson clock; 1: it ticks at every time.

    Raises:
        UserError: the environment is another, or messages have less than three numbers.
    """

    way: Tensor  # gain of the way to the goal
    velocity: Tensor  # gain of the velocity
    pushes: Tensor  # [5, 2] of the moves

    def __init__(self, spec: AgentSpec, rate: float = 1.0) -> None:
        super().__init__(spec)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise UserError(f"agent.rate={rate}: must be in (0, 1]")
        mover, knower = 2 + 2 * LANDMARKS, LANDMARKS
        self.moves, self.knows = bool(spec.action_size), True
        if spec.observation_shape == (mover,):
            self.knows = False
        elif spec.observation_shape not in ((knower,), (mover + knower,)):
            raise UserError(
                f"agent: Steering is for speaker_listener and reference; an observation of shape "
                f"{list(spec.observation_shape)} is of neither"
            )
        if spec.message_size < LANDMARKS:
            raise UserError(f"message.size={spec.message_size}: Steering says {LANDMARKS} numbers")
        way, velocity = gains(rate)
        self.register_buffer("way", torch.tensor(way))
        self.register_buffer("velocity", torch.tensor(velocity))
        self.register_buffer("pushes", torch.tensor(MOVES, dtype=torch.float32))
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # to learn; a network has something

    def tick(self, observation: Tensor, inbox: Inbox, state: State) -> TickOutput:
        worlds, size = observation.shape[0], self.spec.message_size
        message = observation.new_zeros(worlds, size)
        if self.knows:
            rest = observation.new_zeros(worlds, size - LANDMARKS)
            message = torch.cat([observation[:, -LANDMARKS:], rest], -1)
        message = message + 0 * self.nothing
        if not self.moves:
            return TickOutput(observation.new_zeros(worlds, 0), message, state)
        push = self.push(observation, inbox)  # [B, 2]
        if not self.spec.discrete:
            return TickOutput(push.clamp(-1, 1), message, state)
        scores = 2 * push @ self.pushes.T - self.pushes.square().sum(-1)
        return TickOutput(scores, message, state)

    def push(self, observation: Tensor, inbox: Inbox) -> Tensor:
        """The best push where any would do, ``[B, 2]``."""
        velocity, ways = observation[:, :2], observation[:, 2 : 2 + 2 * LANDMARKS]
        ways = ways.unflatten(-1, (LANDMARKS, 2))  # [B, landmarks, 2]
        share = torch.full_like(ways[..., 0], 1 / LANDMARKS)  # [B, landmarks] where it may be
        if self.spec.num_inputs:
            said = inbox.messages[:, 0, :LANDMARKS]
            named = (said == said.amax(-1, keepdim=True)).to(share.dtype)
            share = torch.where(inbox.mask[:, :1], named / named.sum(-1, keepdim=True), share)
        way = (share[..., None] * ways).sum(1)
        return self.way * way - self.velocity * velocity

    def loss(self, output: TickOutput, outcome: Outcome) -> Tensor:
        return torch.zeros_like(outcome.returns)


def gains(rate: float) -> tuple[float, float]:
    """Of the way to the goal and of the velocity, in the best push under a Poisson clock.

    A push ``u`` from here on leaves a body after ``k`` units at ``way - d_k·velocity - a_k·u``
    from its goal. Weighted by how likely it is to hold that long, the sum of squares is least at
    ``u = Σ w_k a_k (way - d_k·velocity) / Σ w_k a_k²``.
    """
    moved, speed = 0.0, 1.0  # d_k, and what is left of the velocity
    pushed, gained = 0.0, 0.0  # a_k, and the velocity that the push gave
    top_way = top_velocity = bottom = 0.0
    for k in range(_LONGEST_HOLD):
        moved, pushed = moved + DT * speed, pushed + DT * gained
        speed, gained = (1 - DAMPING) * speed, (1 - DAMPING) * gained + DT * FORCE
        holds = (1 - rate) ** k
        ahead, pushed_ahead = moved + _LEAD * speed, pushed + _LEAD * gained
        for weight, d, a in (
            (holds, moved, pushed),
            (holds * rate * _LATER, ahead, pushed_ahead),
        ):
            top_way += weight * a
            top_velocity += weight * a * d
            bottom += weight * a * a
    return top_way / bottom, top_velocity / bottom
