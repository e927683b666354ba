"""The command line called in this process, in a folder of its own; and a toy experiment for it."""

import functools
import importlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dnicomm.cli import main
from dnicomm.runs import RunFolder

ROOT = Path(__file__).parents[2]

TOY = '''
import torch
from dnicomm.bench import Experiment
from dnicomm.errors import UserError


class Toy(Experiment):
    """A line fitted to a line; ``method.rate`` is its speed."""

    sample = "points"
    figure = "error"
    higher_is_better = False

    def __init__(self, method, steps: int, points: int, trouble: str, seed: int, device):
        if points < 1:
            raise UserError(f"points={points}: must be at least 1")
        self.arguments = dict(method=method, steps=steps, points=points, trouble="",
                              seed=seed, device=device)
        self.method, self.steps, self.points = method, steps, points
        self.trouble, self.seed = trouble, seed
        self.weight = torch.nn.Parameter(torch.tensor([3.0 + seed], device=device))
        self.idle = torch.nn.Parameter(torch.zeros(1, device=device))
        self.losses = []

    def step(self):
        if self.trouble == "crash":
            raise ArithmeticError("mine")
        if self.trouble == "stop" and self.updates == self.steps // 2:
            raise KeyboardInterrupt
        random = torch.Generator().manual_seed(1000 * self.seed + self.updates)
        x = (1 + 0.1 * torch.randn(self.points, generator=random)).to(self.weight.device)
        loss = ((self.weight * x) ** 2).mean()
        (slope,) = torch.autograd.grad(loss, self.weight)
        with torch.no_grad():
            self.weight -= (-1 if self.trouble == "rising" else 1) * self.method["rate"] * slope
        self.losses.append(loss.item())
        self.updates += 1
        self.samples += self.points

    def evaluate(self):
        loss = sum(self.losses) / len(self.losses) if self.losses else 0.0
        self.losses = []
        return {"error": abs(self.weight.item()), "error_1": 0.0, "train_loss": loss}

    def baseline(self):
        return Toy(**self.arguments)

    def moving(self):
        return {"weight": self.weight} | ({"idle": self.idle} if self.trouble == "idle" else {})

    def tensors(self):
        return {"weight": self.weight}

    def restore(self, tensors, facts):
        with torch.no_grad():
            self.weight.copy_(tensors["weight"])
        self.updates, self.samples = facts["updates"], facts["samples"]

    def finish(self, folder):
        return {"final": self.weight.item()}


class NotOne:
    pass
'''
TOY_CONFIGS = {
    "toy/toy.yaml": """\
# A line.
defaults: [shared, method: fast, _self_, budget: cpu]
hydra:
  searchpath: [pkg://my_bench.shared, pkg://my_bench.lines]
_target_: my_toy.Toy
steps: 12 # updates, at least 1
points: 4 # in each
trouble: ""
eval:
  every: 4
""",
    "toy/budget/cpu.yaml": "# @package _global_\n# Minutes.\n",
    "toy/budget/smoke.yaml": "# @package _global_\n# Seconds.\npoints: 2\n",
    "lines/method/fast.yaml": "# Large steps.\nname: fast\nrate: 0.1\n",
    "lines/method/slow.yaml": "# Small steps. They take\n# long.\nname: slow\nrate: 0.01\n",
}


class Killed(BaseException):
    """Nothing in the program may catch it."""


class Called(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class CommandLine:
    """``cli("run", "steps=10")``; ``cli.folder`` is the working folder."""

    def __init__(self, folder: Path, read: Callable[[], tuple[str, str]]) -> None:
        self.folder, self.read = folder, read

    def __call__(self, *arguments: str) -> Called:
        self.read()
        code = main(list(arguments))
        return Called(code, *self.read())

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        """The command in a process of its own, which takes an interrupt as in a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "dnicomm", *arguments],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=stderr,
            # what a shell starts in the background ignores interrupts, tests included
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def write(self, name: str, text: str) -> None:
        """A file in the working folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def killed(self, method: str, number: int, after: bool, *arguments: str) -> None:
        """Call a command that is killed at a run folder's n-th call of a method, or just after."""
        original, calls = getattr(RunFolder, method), []

        def deadly(run, *given):
            calls.append(method)
            if len(calls) == number and not after:
                raise Killed
            original(run, *given)
            if len(calls) == number:
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFolder, method, deadly)
            with pytest.raises(Killed):
                main(list(arguments))

    def reached(self, name: str) -> str:
        """All that the run of an experiment reached, times aside."""
        run = RunFolder.open(self.folder / name)
        summary, records = run.summary(), run.metrics()
        assert summary is not None
        del summary["cost"]
        for part in (summary, *records):
            del part["seconds"]
        return json.dumps([summary, records])

    def files(self) -> set[str]:
        """What lies in the working folder, without what Python leaves there."""
        found = self.folder.rglob("*")
        return {str(p.relative_to(self.folder)) for p in found if "__pycache__" not in p.parts}


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Iterator[CommandLine]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the working folder is put there
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    before = set(sys.modules)
    yield CommandLine(tmp_path, lambda: tuple(capsys.readouterr()))
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.fixture
def toy(cli, monkeypatch, tmp_path_factory) -> CommandLine:
    """The same where ``toy`` is the one experiment there is."""
    packages = tmp_path_factory.mktemp("toy")
    for name, text in TOY_CONFIGS.items():
        path = packages / "my_bench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (packages / "my_bench" / Path(name).parts[0] / "__init__.py").touch()
    shutil.copytree(ROOT / "configs" / "bench" / "shared", packages / "my_bench" / "shared")
    (packages / "my_bench" / "__init__.py").touch()
    (packages / "my_toy.py").write_text(TOY)
    sys.path.insert(0, str(packages))
    importlib.invalidate_caches()
    monkeypatch.setattr("dnicomm.commands.bench.catalogue.PACKAGE", "my_bench")
    return cli
