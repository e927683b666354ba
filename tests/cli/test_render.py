"""``dnicomm eval RUN render=true``: a world is printed, or goes into a moving picture."""

import json

import numpy as np
import pytest
from PIL import Image

SMALL = (
    "steps=12", "num_worlds=2", "eval.num_worlds=3", "eval.episodes=2", "env.num_agents=3",
    "env.horizon=9", "clock.rate=1", "channel.delay=1", "hydra.run.dir=run",
)  # fmt: skip


@pytest.fixture
def relay(cli):
    assert cli("run", *SMALL).code == 0
    return cli.folder / "run"


def test_a_world_is_printed_at_each_time(relay, cli):
    called = cli("eval", "run", "render=true")
    assert called.code == 0
    frames = called.out.split("\n\n")
    assert [frame.splitlines()[0] for frame in frames[:9]] == [f"time {t} of 9" for t in range(9)]
    assert "agent_0 -> agent_1: sent at 3, arrives at 5" in frames[3]
    assert "relay, trained to world time" in called.out
    assert "accuracy" in called.out
    assert "ablation" not in called.out
    other = cli("eval", "run", "render=true", "world=2").out
    assert other.splitlines()[:9] != called.out.splitlines()[:9]
    assert other.splitlines()[9:12] == called.out.splitlines()[9:12]


def test_a_moving_picture_has_a_frame_for_each_time(relay, cli):
    called = cli("eval", "run", "render=true", "video=out.gif")
    assert called.code == 0
    assert called.out.startswith("out.gif: 9 frames of ")
    assert "time 3 of 9" not in called.out
    frames = []
    with Image.open(cli.folder / "out.gif") as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (9, 250, 0)
        for number in range(9):
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")))
    assert len({frame.tobytes() for frame in frames}) == 9
    assert not list(cli.folder.glob("*.tmp"))
    as_data = cli("eval", "run", "--json", "video=again.gif", "world=1")
    assert json.loads(as_data.out)["env"] == "relay"
    assert as_data.err.startswith("again.gif: 9 frames of ")
    assert (cli.folder / "again.gif").read_bytes() != (cli.folder / "out.gif").read_bytes()


def test_the_scores_are_those_of_an_evaluation_that_nobody_looks_on_at(relay, cli):
    alone = cli("eval", "run", "--metrics=none").out
    assert cli("eval", "run", "video=out.gif").out.endswith(alone)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rendr=true"], "rendr=true: there is no such key. Did you mean 'render'? Known: render"),
        (["true"], "true: there is no such key."),
        (["render=yes"], "render=yes: must be true or false"),
        (["render=true", "render=true"], "render=true: render is there twice"),
        (["video=out.mp4"], "video=out.mp4: must end in .gif"),
        (["video=none/out.gif"], "video=none/out.gif: there is no folder"),
        (["render=false", "video=out.gif"], "video=out.gif: there is nothing to show; add render"),
        (["world=1"], "world=1: there is nothing to show; add render=true"),
        (["render=true", "world=last"], "world=last: must be a whole number of at least 0"),
        (["render=true", "world=3"], "world=3: the worlds of this evaluation are numbered 0 to 2"),
        (["render=true", "--json"], "--json: render=true prints text; say where"),
    ],
)
def test_mistakes_are_named(words, message, relay, cli):
    called = cli("eval", "run", *words)
    assert called.code == 2
    assert called.err.startswith(f"dnicomm: {message}")
    assert called.err.count("\n") == 1
    assert not list(cli.folder.glob("*.gif"))


def test_what_has_no_picture_can_be_printed(cli):
    few = ("steps=4", "num_worlds=2", "eval.num_worlds=2", "eval.episodes=1", "hydra.run.dir=run")
    assert cli("run", "env=gym", "env.id=CartPole-v1", "env.horizon=4", *few).code == 0
    printed = cli("eval", "run", "render=true")
    assert printed.code == 0
    assert printed.out.startswith("time 0 of 4\nticking: agent_0\n")
    refused = cli("eval", "run", "video=out.gif")
    assert refused.code == 2
    assert "has no picture (World.draw); render=true alone prints" in refused.err
    assert not (cli.folder / "out.gif").exists()


def test_experiments_show_no_world(toy, cli):
    assert toy("bench", "toy", "hydra.run.dir=run").code == 0
    refused = toy("eval", "run", "render=true")
    assert refused.code == 2
    assert "there is no world to show" in refused.err
