"""RLlib trains on environments with clocks and channels, through its PettingZoo wrappers."""

import pytest
import torch

from dnicomm.envs import channelled, clocked, clocked_parallel, reference_v0, speaker_listener_v0
from dnicomm.sim import Delay, PoissonClock

pytestmark = [
    pytest.mark.filterwarnings("ignore"), pytest.mark.slow,
    # Ray is often there without RLlib, or RLlib without what its extra installs
    pytest.mark.needs(
        "ray.rllib.env.wrappers.pettingzoo_env:PettingZooEnv", "ray.tune.registry:register_env",
        "ray.rllib.algorithms.ppo:PPOConfig",
    ),
]  # fmt: skip

RATES = PoissonClock(0.5)


def in_turns():
    return clocked(speaker_listener_v0.parallel_env(), RATES)


def action_hold():
    return clocked_parallel(reference_v0.parallel_env(), RATES)


def with_channel():
    return channelled(action_hold(), Delay(0, 2), symbols=3)


MAKERS = {"in_turns": in_turns, "action_hold": action_hold, "channel": with_channel}


def wrapped(make):
    from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv, PettingZooEnv

    return (PettingZooEnv if make is in_turns else ParallelPettingZooEnv)(make())


def test_in_turns_only_the_agent_that_is_due_is_asked():
    env, alone = wrapped(in_turns), in_turns()
    observations, _ = env.reset(seed=1)
    alone.reset(seed=1)
    while alone.agents:
        agent = alone.agent_selection
        if alone.terminations[agent] or alone.truncations[agent]:
            break
        assert agent in observations
        action = alone.action_space(agent).sample()
        alone.step(action)
        observations, rewards, _, _, infos = env.step({agent: action})
        following = alone.agent_selection
        assert rewards[following] == alone.last()[1]
        assert infos[following]["elapsed"] == alone.last()[4]["elapsed"]


@pytest.fixture(scope="module")
def ray():
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_ppo_trains(ray, make):
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    register_env("theirs", lambda config: wrapped(make))
    agents = make().possible_agents
    env = "theirs"
    config = (
        PPOConfig()
        .environment(env)
        .env_runners(num_env_runners=0)
        .multi_agent(policies=set(agents), policy_mapping_fn=lambda agent, *_, **__: agent)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16]))
        .training(train_batch_size_per_learner=100, minibatch_size=50, num_epochs=1)
        .evaluation(evaluation_interval=None)
    )
    algorithm = config.build_algo()
    try:
        before = parameters(algorithm, agents)
        result = algorithm.train()
        after = parameters(algorithm, agents)
    finally:
        algorithm.stop()
    assert result["env_runners"]["num_env_steps_sampled_lifetime"] >= 100
    for agent in agents:
        assert all(torch.isfinite(p).all() for p in after[agent])
        assert any(not torch.equal(a, b) for a, b in zip(before[agent], after[agent], strict=True))


def parameters(algorithm, agents):
    return {
        agent: [p.detach().clone() for p in algorithm.get_module(agent).parameters()]
        for agent in agents
    }
