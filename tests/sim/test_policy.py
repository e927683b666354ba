"""What outputs say of actions, against torch's own distributions; drawing, by given noise."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal

from dnicomm.sim.agent import TickOutput
from dnicomm.sim.engine import Engine
from dnicomm.sim.policy import Choice, choose, entropy, log_policy, within

N, B, A, D = 3, 5, 4, 2

pytestmark = pytest.mark.usefixtures("double")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6)


def output(
    rows: tuple[int, ...] = (B,), size: int = A, wide: bool = False, gate: bool = False
) -> TickOutput:
    """Of one tick.

    Args:
        wide: whether a continuous action has a deviation.
        gate: whether it may stay silent.
    """
    return TickOutput(
        normal(*rows, size),
        normal(*rows, D),
        log_std=0.3 * normal(*rows, size, seed=2) if wide else None,
        speak=2 * normal(*rows, seed=3) if gate else None,
    )


def spoken(rows: tuple[int, ...] = (B,)) -> Tensor:
    return normal(*rows, seed=4) > 0


# -- how likely, how undecided ------------------------------------------------------------------


@pytest.mark.parametrize("rows", [(B,), (N, B)])
@pytest.mark.parametrize("gate", [False, True])
def test_a_discrete_action_is_categorical(rows, gate):
    out, spoke = output(rows, gate=gate), spoken(rows)
    action = (uniform(*rows) * A).long()
    likely, undecided = Categorical(logits=out.action).log_prob(action), 0.0
    undecided = Categorical(logits=out.action).entropy()
    if gate:
        own = Bernoulli(logits=out.speak)
        likely, undecided = likely + own.log_prob(spoke.double()), undecided + own.entropy()
    torch.testing.assert_close(log_policy(out, True, action, spoke), likely)
    torch.testing.assert_close(entropy(out, True), undecided)


@pytest.mark.parametrize("rows", [(B,), (N, B)])
@pytest.mark.parametrize("gate", [False, True])
def test_a_continuous_action_is_gaussian(rows, gate):
    out, spoke = output(rows, wide=True, gate=gate), spoken(rows)
    action = out.action + normal(*rows, A, seed=7)
    law = Normal(out.action, out.log_std.exp())
    likely, undecided = law.log_prob(action).sum(-1), law.entropy().sum(-1)
    if gate:
        own = Bernoulli(logits=out.speak)
        likely, undecided = likely + own.log_prob(spoke.double()), undecided + own.entropy()
    torch.testing.assert_close(log_policy(out, False, action, spoke), likely)
    torch.testing.assert_close(entropy(out, False), undecided)


@pytest.mark.parametrize(
    ("size", "discrete", "action"),
    [
        (0, True, torch.zeros(B, dtype=torch.int64)),  # it only talks
        (0, False, torch.zeros(B, 0)),
        (A, False, torch.ones(B, A)),  # an action without a deviation is not drawn
    ],
)
def test_where_nothing_is_chosen_nothing_is_likely_or_not(size, discrete, action):
    out = output(size=size)
    assert torch.equal(log_policy(out, discrete, action, None), torch.zeros(B))
    assert torch.equal(entropy(out, discrete), torch.zeros(B))
    gated = output(size=size, gate=True)
    own = Bernoulli(logits=gated.speak)
    spoke = spoken()
    torch.testing.assert_close(
        log_policy(gated, discrete, action, spoke), own.log_prob(spoke.double())
    )
    torch.testing.assert_close(entropy(gated, discrete), own.entropy())


def test_gradients_are_those_of_the_distributions():
    """Through logits, mean, deviation and gate."""
    spoke, action = spoken(), (uniform(B) * A).long()
    for discrete in (True, False):
        given = [t.requires_grad_() for t in (normal(B, A), 0.3 * normal(B, A), normal(B, seed=5))]
        scores, log_std, speak = given
        out = TickOutput(scores, normal(B, D), log_std=None if discrete else log_std, speak=speak)
        law = Categorical(logits=scores) if discrete else Normal(scores, log_std.exp())
        done = action if discrete else normal(B, A, seed=9)
        gate = Bernoulli(logits=speak)
        likely, undecided = law.log_prob(done), law.entropy()
        if not discrete:
            likely, undecided = likely.sum(-1), undecided.sum(-1)
        want = (likely + gate.log_prob(spoke.double()) + 0.3 * (undecided + gate.entropy())).sum()
        got = (log_policy(out, discrete, done, spoke) + 0.3 * entropy(out, discrete)).sum()
        asked = [scores, speak] if discrete else given
        for one, other in zip(
            torch.autograd.grad(got, asked), torch.autograd.grad(want, asked), strict=True
        ):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("logit", [-800.0, 800.0])
def test_a_gate_that_is_sure_is_finite(logit):
    out = output(gate=True)._replace(speak=torch.full((B,), logit).requires_grad_())
    spoke = spoken()
    action = torch.zeros(B, dtype=torch.int64)
    found = log_policy(out._replace(action=torch.zeros(B, A)), True, action, spoke)
    certain = torch.where(spoke == (logit > 0), 0.0, -abs(logit))
    torch.testing.assert_close(found, certain - math.log(A))
    torch.testing.assert_close(entropy(out, True), Categorical(logits=out.action).entropy())
    (slope,) = torch.autograd.grad(found.sum() + entropy(out, True).sum(), [out.speak])
    assert torch.isfinite(slope).all()


# -- drawing --------------------------------------------------------------------------------------


def gumbel(noise: Tensor) -> Tensor:
    return -torch.log(-torch.log(noise))


def test_an_index_is_drawn_by_the_largest_score_with_gumbel_noise():
    out, noise = output((N, B)), uniform(N, B, A)
    want = torch.empty(N, B, dtype=torch.int64)
    for n in range(N):
        for b in range(B):
            numbers = [out.action[n, b, a] + gumbel(noise[n, b, a]) for a in range(A)]
            want[n, b] = max(range(A), key=numbers.__getitem__)
    assert torch.equal(choose(out, True, noise).action, want)
    assert not torch.equal(want, out.action.argmax(-1))


def test_what_is_drawn_has_the_probabilities_that_it_should():
    """By construction: the k-th action wins where its number is the largest, a share p_k of all.

    With exponentials e_k = -log u_k the action is that of the smallest e_k / p_k; let two numbers
    be in all proportions on a fine grid, and the share of those that choose the first is p_0.
    """
    p, count = 0.3, 4000
    # two exponentials: only their proportion counts, and e_0 / (e_0 + e_1) is uniform
    share = (torch.arange(count) + 0.5) / count
    noise = torch.stack([torch.exp(-share), torch.exp(-(1 - share))], -1)
    out = TickOutput(torch.tensor([p, 1 - p]).log().expand(count, 2), torch.zeros(count, D))
    assert (choose(out, True, noise).action == 0).double().mean() == pytest.approx(p, abs=1e-3)


def test_a_number_is_drawn_by_the_inverse_of_its_distribution():
    out, noise = output((N, B), wide=True), uniform(N, B, A)
    drawn = choose(out, False, noise).action
    law = Normal(out.action, out.log_std.exp())
    torch.testing.assert_close(law.cdf(drawn), noise)
    torch.testing.assert_close(drawn, law.icdf(noise))


class Constant:
    """In a generator's place."""

    def __init__(self, bits: int) -> None:
        self.number = bits / 2**24

    def random(self, shape, dtype):
        return np.full(shape, self.number, dtype)


@given(bits=st.integers(0, 2**24 - 1))
@example(bits=0)
@example(bits=2**24 - 1)
@settings(deadline=None)
def test_whatever_the_engine_draws_gives_finite_actions(bits):
    """Numbers of 24 bits, zero among them, in float32."""
    place = SimpleNamespace(draw=lambda *key: Constant(bits))
    one, zero = SimpleNamespace(names=["agent_0"]), torch.zeros(1, 1, dtype=torch.float32)
    noise = Engine.uniform(place, ("action",), one, np.array([0]), zero[..., None], 1)
    assert ((noise > 0) & (noise < 1)).all()
    out = TickOutput(zero[..., None], zero[..., None], log_std=zero[..., None])
    assert torch.isfinite(choose(out, False, noise).action).all()
    assert torch.isfinite(gumbel(noise)).all()


def test_it_speaks_where_the_last_number_is_below_the_probability():
    out, noise = output((N, B), gate=True), uniform(N, B, A + 1)
    spoke = choose(out, True, noise).spoke
    assert torch.equal(spoke, noise[..., A] < out.speak.sigmoid())
    assert 0 < spoke.double().mean() < 1
    only = output((N, B), size=0, gate=True)
    assert torch.equal(choose(only, True, noise[..., A:]).spoke, spoke)


@pytest.mark.parametrize("gate", [False, True])
def test_without_noise_the_likeliest(gate):
    out = output((N, B), wide=True, gate=gate)
    for discrete, want in ((True, out.action.argmax(-1)), (False, out.action)):
        found = choose(out, discrete, None)
        assert torch.equal(found.action, want)
        if gate:
            assert torch.equal(found.spoke, out.speak > 0)
        else:
            assert found.spoke is None


def test_an_action_without_a_deviation_is_what_it_is():
    out = output((N, B))
    assert torch.equal(choose(out, False, uniform(N, B, A)).action, out.action)


def test_who_only_talks_does_nothing():
    idle = choose(output((N, B), size=0), True, None)
    assert torch.equal(idle.action, torch.zeros(N, B, dtype=torch.int64))
    assert choose(output((N, B), size=0), False, None).action.shape == (N, B, 0)


def test_choices_carry_no_graph():
    out = output(wide=True, gate=True)
    out = TickOutput(*(None if t is None or t == () else t.requires_grad_() for t in out))
    for noise in (None, uniform(B, A + 1)):
        assert not any(part.requires_grad for part in choose(out, False, noise))


@pytest.mark.parametrize("discrete", [True, False])
def test_stacked_is_one_by_one(discrete):
    out = output((N, B), wide=not discrete, gate=True)
    noise, spoke = uniform(N, B, A + 1), spoken((N, B))
    together = choose(out, discrete, noise)
    likely = log_policy(out, discrete, together.action, spoke)
    for n in range(N):
        alone = TickOutput(*(t[n] if isinstance(t, Tensor) else t for t in out))
        choice = choose(alone, discrete, noise[n])
        assert isinstance(choice, Choice)
        assert torch.equal(choice.action, together.action[n])
        assert torch.equal(choice.spoke, together.spoke[n])
        own = log_policy(alone, discrete, choice.action, spoke[n])
        torch.testing.assert_close(own, likely[n])
        torch.testing.assert_close(entropy(alone, discrete), entropy(out, discrete)[n])


# -- what is allowed ----------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=A, max_size=A).filter(any), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_a_masked_policy_is_the_softmax_of_what_is_allowed(free, seed):
    logits = normal(B, A, seed=seed).requires_grad_()
    allowed = torch.tensor(free).expand(B, A)
    out = within(output()._replace(action=logits), allowed)
    kept = logits[:, torch.tensor(free)]
    one = int(np.flatnonzero(free)[0])
    action = torch.full((B,), one)
    likely, undecided = log_policy(out, True, action, None), entropy(out, True)
    assert torch.allclose(likely, kept.log_softmax(-1)[:, 0])
    assert torch.allclose(undecided, Categorical(logits=kept).entropy())
    (found,) = torch.autograd.grad((likely + undecided).sum(), logits)
    assert torch.isfinite(found).all()
    assert not found[~allowed].any()
    for noise in (None, uniform(B, A + 1, seed=seed)):
        assert allowed.gather(1, choose(out, True, noise).action[:, None]).all()


def test_a_row_that_allows_nothing_says_nothing():
    out = output()
    allowed = torch.zeros(B, A, dtype=torch.bool)
    assert within(out, allowed).action.equal(out.action)
    assert within(out, None) is out
