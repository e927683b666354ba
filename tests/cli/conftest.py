"""The command line called in this process, in a folder of its own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dnicomm.cli import main


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

    def write(self, name: str, text: str) -> None:
        """A file in the working folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

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
