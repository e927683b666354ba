"""SuperSuit stacks environments with clocks and channels, and Stable-Baselines3 trains on them."""

import numpy as np
import pytest
import torch

from dnicomm.envs import channelled, clocked, clocked_parallel, reference_v0
from dnicomm.sim import Delay, Drop, PoissonClock, Series

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.needs("supersuit:pettingzoo_env_to_vec_env_v1", "supersuit:frame_stack_v1"),
]

CLOCKS = {"agent_0": PoissonClock(0.5), "agent_1": PoissonClock(0.3)}


def action_hold():
    return clocked_parallel(reference_v0.parallel_env(), CLOCKS)


def with_channel():
    return channelled(action_hold(), Series((Delay(0, 2), Drop(0.2))), symbols=3)


MAKERS = {"action_hold": action_hold, "channel": with_channel}


def vector(make, base_class, copies=2):
    import supersuit

    env = supersuit.pettingzoo_env_to_vec_env_v1(make())
    return supersuit.concat_vec_envs_v1(env, copies, num_cpus=0, base_class=base_class)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_vector_of_environments(make):
    """Rows are agents of copies; what is due is in the infos, and it is as it is alone."""
    env, alone = vector(make, "gymnasium"), make()
    assert env.num_envs == 4
    observations, infos = env.reset(seed=1)
    expected, told = alone.reset(seed=1)
    actions = np.stack([env.action_space.sample() for _ in range(4)])
    for _ in range(20):
        np.testing.assert_array_equal(observations[0], expected["agent_0"])
        np.testing.assert_array_equal(observations[1], expected["agent_1"])
        assert [infos[row]["due"] for row in (0, 1)] == [told[a]["due"] for a in alone.agents]
        observations, rewards, _, _, infos = env.step(actions)
        expected, alone_rewards, _, _, told = alone.step(dict(zip(CLOCKS, actions, strict=False)))
        assert rewards[:2].tolist() == pytest.approx(list(alone_rewards.values()))


@pytest.mark.needs("stable_baselines3:PPO")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_stable_baselines_trains(make):
    from stable_baselines3 import PPO

    model = PPO(
        "MlpPolicy",
        vector(make, "stable_baselines3"),
        n_steps=32,
        batch_size=64,
        n_epochs=2,
        policy_kwargs={"net_arch": [16]},
        device="cpu",
    )  # fmt: skip -- and no seed=: SuperSuit's vectors have no seed()
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(256)
    assert model.num_timesteps == 256
    after = list(model.policy.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_wrappers_of_turns_go_around_it():
    """SuperSuit's wrappers for environments in turns see the clocks' turns."""
    import supersuit

    env = supersuit.frame_stack_v1(clocked(reference_v0.parallel_env(), CLOCKS), 3)
    env.reset(seed=0)
    times = []
    for agent in env.agent_iter():
        observation, _, terminated, truncated, info = env.last()
        assert observation.shape == (33,)
        times.append((agent, info["time"]))
        env.step(None if terminated or truncated else env.action_space(agent).sample())
    assert times[:2] == [("agent_0", 0), ("agent_1", 0)]
    assert times[-1][1] == 25
    assert len({time for _, time in times}) < 25  # not everybody at every time
