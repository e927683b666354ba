"""Dependencies between the rooms of the package point one way, and its files stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
SIM = {"communication", "core", "data", "runs"}
PLAYERS = SIM | {"sim"}
ANYTHING = PLAYERS | {"envs", "agents", "configs", "bench", "distributed", "report", "testing"}

# what each room may import beside itself and dnicomm.errors
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "communication": set(),
    "core": set(),
    "data": set(),
    "runs": set(),
    "configs": set(),
    "report": {"runs"},
    "sim": SIM,
    "envs": PLAYERS,
    "agents": PLAYERS,
    "testing": PLAYERS,
    "distributed": PLAYERS,
    "bench": PLAYERS | {"envs", "agents"},
    "commands": ANYTHING,
    "cli": ANYTHING | {"commands"},
    "__main__": {"cli"},
    "__init__": ANYTHING,
}
FILES = {"io", "json", "os", "pathlib", "shutil", "tempfile", "yaml"}
RUNS_CODE_OF_A_FILE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
MAX_LINES = 400


class Module(NamedTuple):
    room: str
    path: Path

    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self) -> Iterator[str]:
        """Dotted names, wherever in the file they are imported: ``from a import b`` is a.b."""
        for node in ast.walk(self.tree()):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: a relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def packages(self) -> set[str]:
        return {name.partition(".")[0] for name in self.imports()}


def _modules() -> Iterator[Module]:
    for path in sorted((ROOT / "dnicomm").rglob("*.py")):
        yield Module(path.relative_to(ROOT / "dnicomm").parts[0].removesuffix(".py"), path)
    for room in ("envs", "agents", "configs"):
        for path in sorted((ROOT / room).rglob("*.py")):
            yield Module(room, path)


MODULES = list(_modules())
each_module = pytest.mark.parametrize(
    "module", MODULES, ids=[str(module.path.relative_to(ROOT)) for module in MODULES]
)


def _of(room: str) -> list[Module]:
    return [module for module in MODULES if module.room == room]


@each_module
def test_dependencies_point_one_way(module):
    assert module.room in BELOW, f"say in this test what {module.room} may import"
    rooms = {
        name.split(".")[1]
        for name in module.imports()
        if name.startswith("dnicomm.") and name.split(".")[1] in BELOW
    }
    assert rooms <= BELOW[module.room] | {module.room, "errors"}


@each_module
def test_a_file_does_one_thing(module):
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: split it"
    assert module.path.stem not in VAGUE, "name it after what it does"


@each_module
def test_no_file_is_read_by_running_it(module):
    assert not module.packages() & RUNS_CODE_OF_A_FILE
    calls = {
        ast.unparse(node.func) for node in ast.walk(module.tree()) if isinstance(node, ast.Call)
    }
    assert not calls & {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}


def test_core_computes_on_tensors_and_nothing_else():
    for module in _of("core"):
        third_party = module.packages() - set(sys.stdlib_module_names) - {"dnicomm"}
        assert third_party <= {"torch", "numpy"}, module.path
        assert not module.packages() & FILES, module.path
        names = {node.id for node in ast.walk(module.tree()) if isinstance(node, ast.Name)}
        assert "open" not in names, module.path


def test_communication_is_measured_on_arrays():
    for module in _of("communication"):
        third_party = module.packages() - set(sys.stdlib_module_names) - {"dnicomm"}
        assert third_party <= {"numpy", "scipy", "sklearn"}, module.path
        assert not module.packages() & FILES, module.path


def test_report_draws_without_torch():
    for module in _of("report"):
        assert not module.packages() & {"torch", "safetensors", "pettingzoo", "hydra"}, module.path


def test_run_folders_are_opened_without_torch():
    code = "import sys, dnicomm.runs; sys.exit(bool({'torch', 'safetensors'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
