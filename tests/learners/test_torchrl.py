"""TorchRL trains on environments with clocks and channels, through its PettingZoo wrapper."""

import pytest
import torch

from dnicomm.envs import channelled, clocked, clocked_parallel, reference_v0
from dnicomm.sim import Delay, PoissonClock

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.needs(
        "torchrl.envs.libs.pettingzoo:PettingZooWrapper", "torchrl.modules:MultiAgentMLP",
        "torchrl.objectives:ClipPPOLoss", "tensordict.nn:TensorDictModule",
    ),
]  # fmt: skip

AGENTS = ["agent_0", "agent_1"]
CLOCKS = {"agent_0": PoissonClock(0.5), "agent_1": PoissonClock(0.3)}
STEPS = 50


def wrapped(env, **options):
    from torchrl.envs.libs.pettingzoo import PettingZooWrapper

    return PettingZooWrapper(env, seed=0, group_map={"all": AGENTS}, **options)


def actor_and_critic(env, choices):
    """A network for each agent, on observations of the group ``all``."""
    from tensordict.nn import TensorDictModule
    from torchrl.modules import MultiAgentMLP, ProbabilisticActor, ValueOperator

    size = env.observation_spec["all", "observation"].shape[-1]
    options = {"n_agents": 2, "centralized": False, "share_params": False}
    options |= {"depth": 1, "num_cells": 16}
    policy = TensorDictModule(
        MultiAgentMLP(size, choices, **options), [("all", "observation")], [("all", "logits")]
    )
    actor = ProbabilisticActor(
        policy, spec=env.full_action_spec_unbatched, in_keys=[("all", "logits")],
        out_keys=[env.action_key], distribution_class=torch.distributions.Categorical,
        return_log_prob=True, log_prob_key=("all", "sample_log_prob"),
    )  # fmt: skip
    value = MultiAgentMLP(size, 1, **options)
    critic = ValueOperator(value, [("all", "observation")], [("all", "state_value")])
    return actor, critic


def train(env, actor, critic, acted):
    """Two rounds of PPO on ticks only; what was collected, and the losses.

    ``acted(batch)`` ``[T, agents]`` bool: whose action counted.
    """
    from torchrl.objectives import ClipPPOLoss, ValueEstimators

    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
    loss.set_keys(
        reward=("all", "reward"), action=env.action_key,
        value=("all", "state_value"), sample_log_prob=("all", "sample_log_prob"),
        done=("all", "done"), terminated=("all", "terminated"),
    )  # fmt: skip
    loss.make_value_estimator(ValueEstimators.GAE, gamma=0.95, lmbda=0.9)
    adam = torch.optim.Adam(loss.parameters(), 1e-2)
    batches, losses = [], []
    for _ in range(2):
        with torch.no_grad():
            batch = env.rollout(STEPS, actor, break_when_any_done=False)
            loss.value_estimator(batch)
        found = loss(batch[acted(batch).any(-1)])
        total = found["loss_objective"] + found["loss_critic"] + found["loss_entropy"]
        adam.zero_grad()
        total.backward()
        adam.step()
        batches.append(batch)
        losses.append(total.item())
    return torch.cat(batches), losses


def check_training(env, choices, acted):
    actor, critic = actor_and_critic(env, choices)
    before = [p.detach().clone() for m in (actor, critic) for p in m.parameters()]
    data, losses = train(env, actor, critic, acted)
    after = [p for m in (actor, critic) for p in m.parameters()]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return data


def test_action_hold():
    env = wrapped(clocked_parallel(reference_v0.parallel_env(), CLOCKS))
    data = check_training(env, 5, lambda batch: batch["all", "info", "due"] > 0)
    due = data["next", "all", "info", "due"] > 0
    paid = data["next", "all", "reward"].squeeze(-1) != 0
    over = data["next", "done"].expand(-1, 2)
    assert paid.equal(due | over)  # a reward comes at the next tick or the end
    assert 0.2 < due.float().mean() < 0.7


def test_in_turns():
    env = wrapped(clocked(reference_v0.parallel_env(), CLOCKS), use_mask=True)
    data = check_training(env, 5, lambda batch: batch["all", "mask"])
    assert (data["all", "mask"].sum(-1) == 1).all()  # one agent at a time, the one that is due
    counts = data["all", "mask"].sum(0)
    assert counts[0] > counts[1]  # its clock is faster


def test_a_channel():
    env = wrapped(
        channelled(clocked_parallel(reference_v0.parallel_env(), CLOCKS), Delay(0, 2), symbols=3)
    )
    env.reset()
    assert env.observation_spec["all", "observation"].shape == (2, 11 + 3 + 1)
    data = env.rollout(25)
    assert data[env.action_key].shape == (25, 2, 2)  # of each agent: a move and a symbol
    assert set(data[env.action_key][..., 1].unique().tolist()) <= {0, 1, 2}
    heard = data["next", "all", "observation"][..., 11:14].sum(-1)
    assert set(heard.unique().tolist()) <= {0.0, 1.0}
    assert heard[-1].tolist() == [1, 1]
