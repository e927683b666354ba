"""Where in somebody's code it went wrong: one place, and not ours."""

import json
import os
import runpy

import numpy as np
import pytest
import torch
from torch.func import vmap

from dnicomm.errors import error_line, user_frame
from dnicomm.sim import AgentSpec


def caught(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def line_of(function):
    return function.__code__.co_firstlineno + 1


def in_json():
    json.loads("{")


def in_numpy():
    np.zeros(2).reshape(3)


def in_torch():
    torch.nn.Linear(2, 2)(torch.zeros(3))


def in_a_map():
    vmap(lambda x: x.item())(torch.ones(2))


def in_dnicomm():
    AgentSpec(1, 2)


def own():
    raise KeyError("x")


@pytest.mark.parametrize("function", [in_json, in_numpy, in_torch, in_a_map, in_dnicomm, own])
def test_the_innermost_place_that_is_the_users(function, monkeypatch):
    monkeypatch.chdir(os.path.dirname(__file__))
    assert user_frame(caught(function)) == f" (test_errors.py:{line_of(function)})"


def test_paths_elsewhere_are_whole(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("x = 1\n\nraise ValueError(x)\n")
    monkeypatch.chdir(os.path.dirname(__file__))
    error = caught(lambda: runpy.run_path(str(script), run_name="__main__"))
    assert user_frame(error) == f" ({script}:3)"


def test_nobodys_place_is_none():
    assert user_frame(ValueError("never raised")) is None


def test_an_exception_is_one_line():
    assert error_line(KeyError("x")) == "KeyError: 'x'"
    assert error_line(ValueError("\n first \n second")) == "ValueError: first"
    assert error_line(ValueError()) == "ValueError"
