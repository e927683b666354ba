"""Pictures of environments: what they show, and that they follow the world."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from dnicomm.bench.speed.environments import SHIPPED
from dnicomm.envs import (
    Consensus,
    Counting,
    PredatorPrey,
    Reference,
    Relay,
    SpeakerListener,
    Switch,
    Traffic,
    consensus_v0,
    relay_v0,
    traffic_v0,
)
from dnicomm.envs.drawing import BLUE, MESSAGE, PAPER, Canvas, mixed
from dnicomm.envs.window import Window, open_window
from dnicomm.sim.world import Flight, Moment, World

CPU = torch.device("cpu")
MORE = {
    "relay of twelve": Relay(12),
    "irregular counting": Counting(block=5, irregular=True),
    "one block": Counting(block=1),
    "eight prisoners": Switch(8),
    "a wide grid": PredatorPrey(10, dim=20, vision=2),
    "hard traffic": Traffic("hard"),
    "pushes": SpeakerListener(continuous_actions=True),
    "two": Consensus(2, degree=1),
    "a disc": Consensus(150),
    "many": Consensus(1200),
}
environments = pytest.mark.parametrize(
    "env", [*SHIPPED.values(), *MORE.values()], ids=[*SHIPPED, *MORE]
)


def begin(env, worlds=2, seed=0):
    world = env.make(worlds, "train", CPU)
    world.reset(0, np.random.default_rng(seed))
    return world


def pixels(picture, colour):
    """How many have a colour."""
    return int((picture == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).sum())


@environments
def test_a_picture_of_any_world_at_any_time(env):
    world = begin(env)
    shapes, pictures = set(), []
    times = range(world.episode_length() + 1) if world.horizon <= 6 else range(3)
    for time in times:
        picture = world.draw(1, Moment(time))
        assert picture.dtype == np.uint8
        shapes.add(picture.shape)
        pictures.append(picture)
        lines = world.text(1).splitlines()
        assert len({len(line) for line in lines}) == 1
        world.step()
    ((height, width, channels),) = shapes
    assert channels == 3
    assert 200 < height < 800
    assert 400 < width < 1000
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert pixels(pictures[0], PAPER) > 1000


@environments
def test_worlds_ticks_and_messages_make_a_difference(env):
    world = begin(env, 3)
    start = 6 if env.name == "traffic" else 0  # until there are cars
    for _ in range(start):
        world.step()
    quiet = Moment(start)
    plain = world.draw(0, quiet)
    assert np.array_equal(plain, world.draw(0, quiet)), "drawing changes nothing"
    others = [world.draw(index, quiet) for index in (1, 2)]
    assert any(not np.array_equal(plain, other) for other in others)
    number = {name: i for i, name in enumerate(world.agents)}
    if env.name == "traffic":
        (first, second, *_), *_ = world.there[:, 0].nonzero(as_tuple=True)
        edge = int(first), int(second)
    elif env.name == "switch":
        edge = world.room[0, 0].item(), world.room[1, 0].item()
    else:
        a, b = (world.edges or [world.agents[:2]])[0]
        edge = number[a], number[b]
    sent = world.draw(0, Moment(start, flights=[Flight(*edge, 0.5)]))
    assert pixels(sent, MESSAGE) > pixels(plain, MESSAGE)
    nearer = world.draw(0, Moment(start, flights=[Flight(*edge, 0.7)]))
    assert not np.array_equal(sent, nearer), "it moves"
    if env.name != "switch":  # where the one in the room is marked already
        ticking = world.draw(0, Moment(start, ticking={edge[0]}))
        assert pixels(ticking, BLUE) > pixels(plain, BLUE)
        assert not np.array_equal(plain, ticking)


def test_a_crowd_of_messages_is_drawn_as_faint_lines():
    world = begin(Consensus(100))
    ends = [(int(a), int(b)) for a, b in world.links]
    flights = [Flight(a, b, 0.5) for a, b in ends]
    few = world.draw(0, Moment(0, flights=flights[:20]))
    many = world.draw(0, Moment(0, flights=flights))
    dots = [pixels(picture[:400], MESSAGE) for picture in (few, many)]  # without the legend
    assert dots[0] > 100
    assert dots[1] == 0


def test_a_right_answer_looks_otherwise_than_a_wrong_one():
    world = begin(Relay())
    pictures = [world.draw(0, Moment(0))]
    for shift in (0, 1):
        world.act([3], (world.label[None] + shift) % 10, None)
        pictures.append(world.draw(0, Moment(0)))
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_the_end_of_a_riddle_is_shown():
    world = begin(Switch(), 1)
    world.act([0, 1, 2], torch.ones(3, 1, dtype=torch.int64), None)
    before = world.draw(0, Moment(1))
    world.step()
    assert world.told.all()
    assert not np.array_equal(before, world.draw(0, Moment(1)))


def test_bodies_move_in_the_picture():
    world = begin(Reference(), 1)
    pictures = []
    for time in range(4):
        world.act([0, 1], torch.full((2, 1), 2), None)
        pictures.append(world.draw(0, Moment(0)))
        world.step()
        assert time < world.horizon
    assert len({picture.tobytes() for picture in pictures}) > 2


def test_colours_are_mixed():
    assert mixed("#000000", "#ff8000", 0.5) == "#804000"
    assert mixed("#123456", "#ffffff", 0) == "#123456"
    assert mixed("#123456", "#ffffff", 1) == "#ffffff"


def test_a_canvas_draws_where_it_is_told():
    canvas = Canvas(80, 60, "", Moment(0), 1)
    canvas.rectangle(10, 40, 20, 10, "#ff0000")
    picture = canvas.array()
    red = np.argwhere((picture == (255, 0, 0)).all(-1))
    assert picture.shape == (60, 80, 3)
    assert red.min(0).tolist() == [40, 10]
    assert red.max(0).tolist() == [49, 29]
    assert pixels(picture, "#ff0000") == 200


# -- as PettingZoo ---------------------------------------------------------------------------------


def test_modes_and_frames_are_told_beforehand():
    env = relay_v0.parallel_env()
    assert env.metadata["render_modes"] == ["human", "rgb_array", "ansi"]
    assert env.metadata["render_fps"] == 4
    assert relay_v0.env(render_mode="rgb_array").render_mode == "rgb_array"


def test_frames_follow_an_episode():
    env = traffic_v0.parallel_env(render_mode="rgb_array", num_agents=2, arrival=1.0, horizon=5)
    env.reset(seed=0)
    frames = [env.render()]
    while env.agents:
        env.step({})
        frames.append(env.render())
    assert len(frames) == 6
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert len({frame.tobytes() for frame in frames}) == 6


def test_a_text_names_no_more_agents_than_can_be_read():
    env = consensus_v0.parallel_env(render_mode="ansi")
    env.reset(seed=0)
    lines = env.render().splitlines()
    assert lines[0] == "consensus_v0  time 0 of 30"
    assert lines[-1] == "… and 80 more"
    assert len(lines) == 1 + 2 + 20 + 1


def test_a_world_of_ones_own_may_have_no_picture():
    world = begin(Relay())
    assert World.draw(world, 0, Moment(0)) is None
    assert World.text(world, 0) is None


def test_without_a_display_there_is_no_window(monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(OSError, match=r"display|Tk"):
        Window("nothing", 4)
    assert open_window("nothing", 4) is None
    said = capsys.readouterr().err
    assert said.startswith("nothing: no window (")
    assert said.count("\n") == 1


def test_pictures_are_loaded_once_they_are_drawn():
    code = (
        "import sys, torch, numpy as np; from dnicomm.envs import Relay;"
        "w = Relay().make(1, 'train', torch.device('cpu')); w.reset(0, np.random.default_rng(0));"
        "assert 'PIL' not in sys.modules; from dnicomm.sim.world import Moment;"
        "w.draw(0, Moment(0)); assert 'PIL' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
