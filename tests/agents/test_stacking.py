"""Agents that take the values of all members at once equal those mapped over the members."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dnicomm.agents import FeedForward, Recurrent
from dnicomm.core import Adam, Population
from dnicomm.sim import AgentSpec, Inbox, Outcome


class Heir(Recurrent):
    """Says nothing of itself."""


class Scaled(Recurrent):
    stacks = True

    def __init__(self, spec, width=4):
        super().__init__(spec, width)
        self.scale = nn.Parameter(torch.ones(width))


def population(kind, members, spec, width=4):
    return Population([kind(spec, width).double() for _ in range(members)], Adam())


def everything(agents, rows, spec, members, worlds):
    """Outputs, losses and gradients of a tick."""
    random = torch.Generator().manual_seed(members * 10 + worlds)

    def draw(*shape):
        return torch.randn(members, worlds, *shape, dtype=torch.double, generator=random)

    messages = draw(spec.num_inputs, spec.message_size).requires_grad_()
    inbox = Inbox(messages, draw(spec.num_inputs) > 0, draw(spec.num_inputs).abs())
    before = agents.template.initial_state(worlds)
    if isinstance(before, torch.Tensor):
        before = draw(before.shape[-1])
    output = agents.call(rows, "tick", draw(*spec.observation_shape), inbox, before)
    label = torch.randint(-1, max(spec.action_size, 1), (members, worlds), generator=random)
    nothing = torch.zeros(members, worlds, dtype=torch.double)
    outcome = Outcome(label, label, label > 0, nothing, nothing, nothing)
    loss = agents.call(rows, "loss", output, outcome)
    told = [(loss, torch.ones_like(loss)), (output.message, draw(spec.message_size))]
    outputs, gradients = zip(*[pair for pair in told if pair[0].requires_grad], strict=True)
    torch.autograd.backward(outputs, gradients)
    state = () if isinstance(output.state, tuple) else (output.state,)
    found = [output.action, output.message, *state, loss, torch.cat(rows.gradient(), 1)]
    return found if spec.num_inputs == 0 else [*found, messages.grad]


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("kind", [FeedForward, Recurrent])
@given(
    members=st.integers(2, 4),
    worlds=st.integers(1, 3),
    seen=st.sampled_from([(0,), (1,), (5,), (2, 3), (2, 2, 2)]),
    actions=st.integers(0, 3),
    inputs=st.integers(0, 3),
    size=st.integers(1, 4),
)
@settings(max_examples=20, deadline=None)
def test_stacked_equals_mapped(kind, members, worlds, seen, actions, inputs, size):
    spec = AgentSpec(seen, actions, True, size, inputs)
    torch.manual_seed(0)
    agents = population(kind, members, spec)
    assert agents._template.stacks
    stacked = everything(agents, agents.rows(), spec, members, worlds)
    agents._template.stacks = False
    mapped = everything(agents, agents.rows(), spec, members, worlds)
    for a, b in zip(stacked, mapped, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_only_who_promises_for_itself_is_stacked():
    spec = AgentSpec((2,), 2, True, 3, 1)
    assert not population(Heir, 2, spec)._template.stacks
    assert not population(Scaled, 2, spec)._template.stacks  # a parameter of no linear map
    member = population(Recurrent, 2, spec)
    member.call(member.rows(), "loss", *_outputs(spec))
    assert "forward" not in member.module(0).action.__dict__


def _outputs(spec):
    from dnicomm.sim import TickOutput

    zero = torch.zeros(2, 3, dtype=torch.double)
    label = torch.zeros(2, 3, dtype=torch.int64)
    output = TickOutput(torch.zeros(2, 3, spec.action_size, dtype=torch.double), zero[..., None])
    return output, Outcome(label, label, label > 0, zero, zero, zero)
