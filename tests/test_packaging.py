"""What is installed is what lies in the tree, under the one name ``dnicomm``."""

import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import dnicomm

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "dnicomm": "dnicomm",
    "dnicomm.envs": "envs",
    "dnicomm.agents": "agents",
    "dnicomm.configs": "configs",
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_pyproject_lists_every_package():
    # a forgotten one works in an editable install, but is missing from the wheel
    found = {
        ".".join((name, *init.parent.relative_to(ROOT / folder).parts))
        for name, folder in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_every_folder_of_modules_is_a_package(folder):
    parents = {module.parent for module in (ROOT / folder).rglob("*.py")}
    assert [parent for parent in parents if not (parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("folder", ["envs", "agents", "configs"])
def test_folders_are_not_top_level_packages(folder, monkeypatch):
    # importable under two names, every class would exist twice
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, folder, raising=False)
    with pytest.raises(ImportError, match=f"import dnicomm.{folder}"):
        importlib.import_module(folder)


def test_configs_are_package_data():
    if not (ROOT / "configs" / "config.yaml").exists():
        pytest.skip("there is no configs/config.yaml yet")
    assert (files("dnicomm.configs") / "config.yaml").is_file()


def test_one_version():
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert dnicomm.__version__ == PYPROJECT["project"]["version"] == citation.version


@pytest.mark.slow
def test_wheel_holds_every_file_under_one_name(tmp_path, package_index):
    # of a copy: a build/ left in the tree would end up in the wheel
    source = tmp_path / "source"
    leftovers = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", ".*", "typings")
    shutil.copytree(ROOT, source, ignore=leftovers)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, source]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        "/".join((*package.split("."), *path.relative_to(ROOT / folder).parts))
        for package, folder in FOLDERS.items()
        for pattern in ("*.py", "*.yaml", "py.typed", "*.js", "*.css")
        for path in (ROOT / folder).rglob(pattern)
    }
    assert names == expected
