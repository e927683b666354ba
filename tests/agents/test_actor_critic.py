"""Agents that learn from rewards: losses in closed form, gates, pools, actions in numbers."""

import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

from dnicomm.agents import PPO, ActorCritic, RecurrentActorCritic, RecurrentPPO
from dnicomm.core import Adam, Population
from dnicomm.sim import AgentSpec
from dnicomm.sim.agent import Inbox, Outcome, TickOutput
from dnicomm.testing import check_agent

B, WIDTH, D = 6, 8, 3
A2C, PROXIMAL = [ActorCritic, RecurrentActorCritic], [PPO, RecurrentPPO]
each_agent = pytest.mark.parametrize("kind", [*A2C, *PROXIMAL])
TALKER = AgentSpec((5,), 0, True, D, 2)
CHOOSER = AgentSpec((5,), 4, True, D, 3)
MOVER = AgentSpec((5,), 2, False, D, 3)
each_spec = pytest.mark.parametrize("spec", [CHOOSER, MOVER, TALKER],
                                    ids=["discrete", "continuous", "talks"])  # fmt: skip


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(kind, spec, seed=0, **options):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        torch.manual_seed(seed)
        return kind(spec, width=WIDTH, **options)


def inbox(spec: AgentSpec, seed: int = 1) -> Inbox:
    mask = normal(B, spec.num_inputs, seed=seed) > -0.3
    messages = normal(B, spec.num_inputs, D, seed=seed + 1) * mask[..., None]
    return Inbox(messages, mask, mask * 2.0)


def ticked(agent, seed: int = 3, heard: Inbox | None = None) -> TickOutput:
    seen = normal(B, *agent.spec.observation_shape, seed=seed)
    return agent.tick(seen, heard or inbox(agent.spec), agent.initial_state(B))


def outcome(spec: AgentSpec, log_policy: Tensor | None = None) -> Outcome:
    rng = torch.Generator().manual_seed(9)
    action = torch.randint(max(spec.action_size, 1), (B,), generator=rng)
    return Outcome(
        label=torch.full((B,), -1),
        action=action if spec.discrete else normal(B, spec.action_size, seed=10),
        spoke=normal(B, seed=11) > 0,
        returns=normal(B, seed=12),
        advantage=normal(B, seed=13),
        log_policy=torch.zeros(B) if log_policy is None else log_policy,
    )


def expected(spec: AgentSpec, output: Any, told: Outcome) -> tuple[Tensor, Tensor]:
    """Log-probability of what was done and entropy, ``[B]``, by torch's own distributions."""
    likely = undecided = torch.zeros(B)
    if spec.action_size and spec.discrete:
        choice = Categorical(logits=output.action)
        likely, undecided = choice.log_prob(told.action), choice.entropy()
    elif spec.action_size:
        law = Normal(output.action, output.log_std.exp())
        likely, undecided = law.log_prob(told.action).sum(-1), law.entropy().sum(-1)
    if output.speak is not None:
        gate = Bernoulli(logits=output.speak)
        likely = likely + gate.log_prob(told.spoke.to(likely))
        undecided = undecided + gate.entropy()
    return likely, undecided


def gradients(agent, loss: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(
        loss.sum(), list(agent.parameters()), allow_unused=True, retain_graph=True
    )
    return [torch.zeros(()) if part is None else part for part in found]


# -- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("kind", A2C)
def test_the_loss_and_its_gradient_in_closed_form(kind, entropy):
    """Of a choice among four, without any distribution's help."""
    agent = kind(CHOOSER, width=WIDTH, entropy=entropy)
    logits, value = normal(B, 4, seed=1).requires_grad_(), normal(B, seed=2).requires_grad_()
    told = outcome(CHOOSER)
    loss = agent.loss(TickOutput(logits, torch.zeros(B, D), (), value), told)
    loss.sum().backward()
    for b in range(B):
        numbers = logits[b].tolist()
        total = sum(math.exp(n) for n in numbers)
        p = [math.exp(n) / total for n in numbers]
        error, advantage = told.returns[b].item() - value[b].item(), told.advantage[b].item()
        h = -sum(q * math.log(q) for q in p)
        taken = int(told.action[b])
        want = 0.5 * error**2 - math.log(p[taken]) * advantage - entropy * h
        assert loss[b].item() == pytest.approx(want, rel=1e-9)
        # policy gradient: (p - 1[taken]) × advantage; dH/dlogit_i = -p_i (log p_i + H)
        slope = [
            (q - (i == taken)) * advantage + entropy * q * (math.log(q) + h)
            for i, q in enumerate(p)
        ]
        assert logits.grad[b].tolist() == pytest.approx(slope, rel=1e-9, abs=1e-12)
        assert value.grad[b].item() == pytest.approx(-error, rel=1e-9)  # not from the policy


@each_spec
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("kind", A2C)
def test_the_loss_of_everything_that_was_chosen(kind, gate, spec):
    """Action and silence together: likelihoods multiply, entropies add up."""
    agent = built(kind, spec, gate=gate, entropy=0.2, value_weight=0.7)
    output, told = ticked(agent), outcome(spec)
    likely, undecided = expected(spec, output, told)
    want = -likely * told.advantage + 0.7 * (output.value - told.returns).square() - 0.2 * undecided
    loss = agent.loss(output, told)
    torch.testing.assert_close(loss, want)
    for one, other in zip(gradients(agent, agent.loss(ticked(agent), told)),
                          gradients(agent, want), strict=True):  # fmt: skip
        torch.testing.assert_close(one, other)


@each_spec
@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("kind", PROXIMAL)
def test_the_clipped_loss(kind, gate, spec):
    """Beyond the clip a ratio is of no more use: nothing of it reaches the parameters."""
    agent = built(kind, spec, gate=gate, entropy=0.0, value_weight=0.0, clip=0.2)
    output = ticked(agent)
    likely, _ = expected(spec, output, outcome(spec))
    for grown in (-0.5, -0.05, 0.0, 0.05, 0.5):  # the log-probability, since it was chosen
        told, ratio = outcome(spec, likely.detach() - grown), math.exp(grown)
        full, clipped = ratio * told.advantage, min(max(ratio, 0.8), 1.2) * told.advantage
        loss = agent.loss(output, told)
        torch.testing.assert_close(loss, -torch.minimum(full, clipped))
        of_use = full <= clipped
        assert bool(of_use.all()) == (abs(grown) < 0.1)
        slope = -torch.where(of_use, full * likely, 0.0) + 0 * output.value
        for one, other in zip(gradients(agent, loss), gradients(agent, slope), strict=True):
            torch.testing.assert_close(one, other)


def test_only_those_that_step_often_say_so():
    assert [kind(CHOOSER).epochs for kind in A2C] == [1, 1]
    assert [kind(CHOOSER, epochs=7).epochs for kind in PROXIMAL] == [7, 7]
    assert [kind.normalises_advantages for kind in (*A2C, *PROXIMAL)] == [False] * 2 + [True] * 2


# -- what is chosen -------------------------------------------------------------------------------


@each_agent
def test_who_acts_in_numbers_has_a_deviation_that_it_learns(kind):
    agent = built(kind, MOVER)
    output = ticked(agent)
    assert torch.equal(output.log_std, torch.zeros(B, 2))
    with torch.no_grad():
        agent.log_std.copy_(torch.tensor([0.5, -1.0]))
    assert torch.equal(ticked(agent).log_std, agent.log_std.expand(B, 2))
    told = outcome(MOVER)
    (slope,) = torch.autograd.grad(agent.loss(ticked(agent), told).sum(), [agent.log_std])
    assert slope.ne(0).all()
    assert built(kind, CHOOSER).log_std is None
    assert ticked(built(kind, CHOOSER)).log_std is None


@each_agent
@each_spec
def test_a_gate_is_one_more_head(kind, spec):
    agent, without = built(kind, spec, gate=True), built(kind, spec)
    output = ticked(agent)
    assert output.speak.shape == (B,)
    assert output.speak.requires_grad
    assert ticked(without).speak is None
    names = {name for name, _ in agent.named_parameters()}
    assert names - {name for name, _ in without.named_parameters()} == {"gate.weight", "gate.bias"}


# -- the echo -------------------------------------------------------------------------------------


@each_agent
@each_spec
def test_without_an_echo_it_says_what_it_sees_alone(kind, spec):
    """By weights of its own: what it does and is worth doesn't depend on them."""
    agent = built(kind, spec, echo=False)
    one, two = ticked(agent), ticked(agent, heard=inbox(spec, seed=20))
    assert torch.equal(one.message, two.message)
    assert not torch.equal(one.value, two.value)
    assert not torch.equal(one.message, ticked(agent, seed=30).message)
    assert set(said_by(agent, one.message)) == {"message.weight", "message.bias"}
    heard = built(kind, spec)
    assert not torch.equal(ticked(heard).message, ticked(heard, heard=inbox(spec, 20)).message)


def said_by(agent, message: Tensor) -> list[str]:
    """Names of the parameters that a message depends on."""
    names, own = zip(*agent.named_parameters(), strict=True)
    found = torch.autograd.grad(message.sum(), own, allow_unused=True)
    return [name for name, part in zip(names, found, strict=True) if part is not None]


# -- the pool -------------------------------------------------------------------------------------


@each_agent
@each_spec
def test_a_pool_hears_not_who_sent(kind, spec):
    """Invariant to permutations of the inbox; without a pool the sender matters."""
    heard = inbox(spec)
    other = Inbox(*(part[:, torch.arange(spec.num_inputs) - 1] for part in heard))
    assert not torch.equal(heard.messages, other.messages)
    for pool in ("sum", "mean", None):
        agent = built(kind, spec, pool=pool)
        one, two = ticked(agent, heard=heard), ticked(agent, heard=other)
        same = torch.isclose(one.message, two.message, rtol=1e-12, atol=1e-12).all(1)
        changed = (heard.messages != other.messages).any(2).any(1)
        assert torch.equal(same, torch.ones_like(same) if pool else ~changed)


def test_a_pool_is_the_mean_or_sum_of_what_is_there():
    heard = inbox(CHOOSER)
    mean, total = heard.pooled("mean"), heard.pooled("sum")
    for b in range(B):
        there = [heard.messages[b, k] for k in range(3) if heard.mask[b, k]]
        want = torch.stack(there) if there else torch.zeros(1, D)
        torch.testing.assert_close(mean[b, :D], want.mean(0))
        torch.testing.assert_close(total[b, :D], want.sum(0))
        assert mean[b, D] == total[b, D] == len(there) / 3
    assert len(heard.mask.sum(1).unique()) > 1
    nobody = Inbox(*(part[:, :0] for part in heard))
    assert torch.equal(nobody.pooled("mean"), torch.zeros(B, D + 1))


def test_a_pool_is_as_large_however_many_send():
    sizes = {
        sum(p.numel() for p in built(ActorCritic, AgentSpec((5,), 4, True, D, k), pool="sum")
            .parameters())
        for k in (0, 1, 9)
    }  # fmt: skip
    assert len(sizes) == 1


# -- in one kernel, and by contract ---------------------------------------------------------------


@each_spec
@pytest.mark.parametrize("options", [{"pool": True}, {"gate": True}, {"pool": True, "gate": True}])
@each_agent
def test_a_population_is_its_members_one_by_one(kind, options, spec):
    members = [built(kind, spec, seed, **options) for seed in range(2)]
    population = Population(members, Adam(1e-2))
    rows, heard, told = population.rows(), inbox(spec), outcome(spec)
    seen = normal(B, 5, seed=4)
    state = members[0].initial_state(B)
    stacked = torch.stack([state, state]) if isinstance(state, Tensor) else state
    twice = Inbox(*(torch.stack([part, part]) for part in heard))
    output = population.call(rows, "tick", torch.stack([seen, seen]), twice, stacked)
    both = Outcome(*(torch.stack([part, part]) for part in told))
    loss = population.call(rows, "loss", output, both)
    for row, member in enumerate(members):
        alone = member.tick(seen, heard, state)
        for one, other in zip(alone, output, strict=True):
            if isinstance(one, Tensor):
                torch.testing.assert_close(one, other[row])
            else:
                assert one is None or one == ()
        torch.testing.assert_close(member.loss(alone, told), loss[row])


@each_agent
@pytest.mark.parametrize("options", [{}, {"pool": True}, {"gate": True}], ids=str)
def test_the_checks_have_nothing_to_say(kind, options):
    torch.set_default_dtype(torch.float32)
    made = partial(kind, width=WIDTH, **options)
    assert check_agent(made) == []
    for spec in (MOVER, AgentSpec((2, 3), 1, False, D, 0), TALKER):
        assert check_agent(made, spec) == []


WRONG = {
    "speak": ({"speak": torch.zeros(5, 1)}, "speak"),
    "log_std": ({"log_std": torch.zeros(5, 1)}, "log_std"),
    "integers": ({"speak": torch.zeros(5, dtype=torch.int64)}, "speak"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_checks_see_a_gate_or_a_deviation_of_another_shape(name):
    changes, what = WRONG[name]

    class Odd(ActorCritic):
        def tick(self, observation, inbox, state):
            return super().tick(observation, inbox, state)._replace(**changes)

    torch.set_default_dtype(torch.float32)
    assert any(what in complaint for complaint in check_agent(Odd))
