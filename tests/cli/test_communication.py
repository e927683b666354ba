"""``dnicomm eval`` says what communication comes to, as tables and as data."""

import json

import pytest

SMALL = (
    "steps=20", "num_worlds=4", "eval.num_worlds=30", "eval.episodes=1", "env.num_agents=3",
    "env.horizon=10", "message.size=4", "hydra.run.dir=run",
)  # fmt: skip


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """A run of the relay, which nobody changes."""
    from dnicomm.cli import main

    folder = tmp_path_factory.mktemp("relay") / "run"
    assert main(["run", *SMALL[:-1], f"hydra.run.dir={folder}"]) == 0
    return folder


def _as_data(cli, *words):
    called = cli("eval", *map(str, words), "--json")
    assert (called.code, called.err) == (0, "")
    return json.loads(called.out)


def test_tables_of_each_family(cli, relay):
    called = cli("eval", str(relay))
    assert (called.code, called.err) == (0, "")
    lines = called.out.splitlines()
    firsts = [line.split("  ")[0] for line in lines]
    for table in ("metric", "said", "heard", "influence by age", "silenced"):
        assert table in firsts
    for channel in ("agent_0->agent_1", "agent_1->agent_2"):
        assert firsts.count(channel) == 4
    assert "all channels" in firsts
    assert "information in nats" in called.out


def test_the_same_as_data(cli, relay):
    found = _as_data(cli, relay)
    assert found["env"] == "relay"
    assert (found["episodes"], found["worlds"], found["time"]) == (1, 30, 20)
    communication = found["communication"]
    assert communication["unit"] == "nats"
    assert list(communication["channels"]) == ["agent_0->agent_1", "agent_1->agent_2"]
    assert communication["ablation"]["on"]["accuracy"] == found["metrics"]["accuracy"]
    first, second = communication["channels"].values()
    assert (first["response"], second["response"]) == ("message", "discrete action")
    assert (first["meaning"], first["symbols"]) == ("label", None)
    estimate = first["positive_signalling"]
    assert set(estimate) == {"value", "chance", "chance_95", "samples"}
    assert _as_data(cli, relay) == found
    assert _as_data(cli, relay, "--metrics=none") == found | {"communication": None}


def test_a_choice_of_metrics_and_channels(cli, relay):
    name = "agent_1->agent_2"
    words = ("--metrics=use,structure", f"--channels={name}")
    found = _as_data(cli, relay, *words)["communication"]
    assert list(found["channels"]) == [name]
    assert found["left_out"] == 1
    assert "messages_per_time" in found["channels"][name]
    assert "causal_influence" not in found["channels"][name]
    called = cli("eval", str(relay), *words)
    assert "said" in called.out
    assert "heard" not in called.out
    assert "1 more channels are not measured" in called.out
    plain = cli("eval", str(relay), "--metrics=none")
    assert plain.out.splitlines()[-1].startswith("train_gap")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--metrics=us", "metrics: there are no metrics 'us'. Did you mean 'use'"),
        ("--metrics=use,", "metrics: there are no metrics ''. Known: ablation, listening"),
        ("--channels=agent_0->agent_2", "channels: there is no channel 'agent_0->agent_2'. Did"),
        ("--chanels=a", "--chanels: there is no such flag. Did you mean '--channels'"),
    ],
)
def test_what_there_is_not(cli, relay, words, message):
    called = cli("eval", str(relay), words)
    assert called.code == 2
    assert called.out == ""
    assert message in called.err
    assert called.err.count("\n") == 1


def test_runs_without_channels_say_so_in_one_line(cli):
    words = ("env=gym", "env.id=CartPole-v1", "agent=actor_critic", "steps=20", "num_worlds=2")
    few = ("eval.num_worlds=2", "eval.episodes=1", "hydra.run.dir=run")
    assert cli("run", *words, *few).code == 0
    called = cli("eval", "run")
    assert called.out.endswith("\n\nno channels: there is no communication to measure\n")
    assert _as_data(cli, "run")["communication"]["channels"] == {}


@pytest.mark.needs("mpe2.simple_reference_v3")
def test_other_peoples_environments(cli):
    words = ("env=pettingzoo", "env.id=mpe2.simple_reference_v3", "agent=recurrent_actor_critic")
    few = ("steps=30", "num_worlds=2", "eval.num_worlds=6", "eval.episodes=1", "message.size=3")
    assert cli("run", *words, *few, "hydra.run.dir=run").code == 0
    found = _as_data(cli, "run")["communication"]
    for channel in found["channels"].values():
        assert channel["response"] == "discrete action"
        assert channel["meaning"] == "state"  # of the environment
        assert channel["causal_influence"] > 0
    assert set(found["ablation"]["all"]["shuffled"]) == {"return"}


def test_discrete_messages_are_symbols(cli):
    words = ("message.discrete=gumbel", "steps=10", *SMALL[1:])
    assert cli("run", *words).code == 0
    channels = _as_data(cli, "run")["communication"]["channels"]
    first = channels["agent_0->agent_1"]
    assert 1 <= first["symbols"] <= 4
    assert first["bits_per_time"] == pytest.approx(2 * first["messages_per_time"])
    assert first["context_independence"] is not None


def test_an_experiment_has_no_such_metrics(toy):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    refused = toy("eval", "run", "--metrics=use")
    assert refused.code == 2
    assert "which takes neither --metrics nor --channels" in refused.err
    found = _as_data(toy, "run")
    assert (found["bench"], found["time"]) == ("toy", 12)
    assert "error" in found["metrics"]
