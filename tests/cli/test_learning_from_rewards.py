"""Agents, channels and messages for environments with rewards, by the command line."""

import pytest

from dnicomm.runs import RunFolder

AGENTS = ["actor_critic", "recurrent_actor_critic", "ppo", "recurrent_ppo"]
SMALL = ("steps=8", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "agent.width=8",
         "hydra.run.dir=run")  # fmt: skip


def ran(cli, *words):
    called = cli("run", *words, *SMALL)
    assert called.code == 0, called.err
    return RunFolder.open(cli.folder / "run")


@pytest.mark.parametrize(
    ("agent", "world"),
    [
        ("actor_critic", "Pendulum-v1"),
        ("recurrent_actor_critic", "CartPole-v1"),
        ("ppo", "CartPole-v1"),
        ("recurrent_ppo", "Pendulum-v1"),
    ],
)
def test_an_agent_alone(agent, world, cli):
    """With a choice, and with a number between bounds."""
    run = ran(cli, "env=gym", f"env.id={world}", "env.horizon=8", "window=4", f"agent={agent}")
    own = run.summary()["agents"]["agent_0"]
    epochs = 4 if "ppo" in agent else 1
    assert (own["updates"], own["skipped_updates"]) == (2 * epochs, 0)
    assert run.config["agent"].get("epochs", 1) == epochs


@pytest.mark.parametrize(
    "words",
    [
        ("agent=ppo", "agent.gate=true", "agent.pool=sum", "share_parameters=true"),
        ("agent=recurrent_ppo", "message.discrete=gumbel", "gae_lambda=0.9"),
        ("message.discrete=dru", "feedback=exact", "channel.cost=0.1", "channel.cost_unit=bit"),
        ("agent.gate=true", "channel.bandwidth=0.5", "channel.queue=1", "channel.cost=0.01"),
        ("utility.context=[sender,receiver]", "share_parameters=true", "feedback=mixed"),
    ],
    ids=" ".join,
)
def test_agents_together(words, cli):
    run = ran(cli, "env=predator_prey", "env.horizon=4", "message.size=4", *words)
    summary = run.summary()
    agents = summary["agents"]
    assert len(agents) > 1
    assert all(own["updates"] > 0 and own["skipped_updates"] == 0 for own in agents.values())
    assert len({own["updates"] for own in agents.values()}) == 1 or "share" not in " ".join(words)
    resumed = cli("eval", "run")
    assert resumed.code == 0, resumed.err


@pytest.mark.parametrize("agent", AGENTS)
def test_checks_find_nothing(agent, cli):
    called = cli("check", f"agent={agent}")
    assert called.code == 0, called.err + called.out
    assert cli("check", f"agent={agent}", "gate=true", "pool=sum").code == 0


def test_options_are_explained(cli):
    listed = cli("list", "agents").out
    assert all(name in listed for name in AGENTS)
    explained = cli("list", "agent=ppo").out
    for key in ("epochs", "clip", "pool", "gate"):
        assert key in explained
    keys = cli("list", "keys").out
    for key in ("gae_lambda", "share_parameters", "discrete"):
        assert key in keys
    channel = cli("list", "channel=standard").out
    for key in ("bandwidth", "queue", "cost", "cost_unit"):
        assert key in channel
