"""Run folders: what is written comes back, what is damaged is named, nothing is written over."""

import json
import math
import os

import numpy as np
import pytest
from omegaconf import OmegaConf

from dnicomm.errors import UserError
from dnicomm.runs import RunFolder, versions

CONFIG = {
    "env": {"name": "relay", "num_agents": 4},
    "clock": [1, 2],
    "lr": 1e-5,
    "word": "1e-3",
    "flag": "yes",
    "day": "2026-01-02",
    "nothing": None,
    "on": True,
    "digits": "λ",
    "link": "${env.name}",
}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", CONFIG)


class TestCreateAndOpen:
    def test_configuration_comes_back(self, folder):
        assert folder.config == CONFIG
        assert RunFolder.open(str(folder.path)).config == CONFIG

    def test_hydra_reads_the_same_file(self, folder):
        loaded = OmegaConf.load(folder.path / "config.yaml")
        assert OmegaConf.to_container(loaded, resolve=False) == CONFIG

    def test_a_hydra_configuration_is_taken(self, tmp_path):
        assert RunFolder.create(tmp_path / "a" / "b", OmegaConf.create(CONFIG)).config == CONFIG

    def test_empty_configuration(self, tmp_path):
        assert RunFolder.create(tmp_path, {}).config == {}

    def test_other_files_may_be_there(self, tmp_path):
        (tmp_path / ".hydra").mkdir()
        (tmp_path / "run.log").write_text("")
        assert RunFolder.create(tmp_path, CONFIG).config == CONFIG

    @pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "summary.json"])
    def test_nothing_is_written_over(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=f"already holds a run .it has {name}"):
            RunFolder.create(tmp_path, CONFIG)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "mine"

    def test_a_run_is_not_created_twice(self, folder):
        with pytest.raises(UserError, match="already holds a run"):
            RunFolder.create(folder.path, {})
        assert folder.config == CONFIG

    def test_path_through_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(UserError, match="cannot be a run folder"):
                RunFolder.create(path, CONFIG)

    def test_killed_while_it_was_created(self, tmp_path, monkeypatch):
        def kill(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("dnicomm.runs.atomic.os.fsync", kill)
            with pytest.raises(KeyboardInterrupt):
                RunFolder.create(tmp_path, CONFIG)
        with pytest.raises(UserError, match="has no config"):
            RunFolder.open(tmp_path)
        assert RunFolder.create(tmp_path, CONFIG).config == CONFIG

    def test_what_yaml_does_not_hold_is_refused_before_anything_is_made(self, tmp_path):
        with pytest.raises(Exception, match="object"):
            RunFolder.create(tmp_path / "run", {"agent": object()})
        assert not (tmp_path / "run").exists()

    def test_not_there(self, tmp_path):
        with pytest.raises(UserError, match=r"none is not a run folder: it is not there"):
            RunFolder.open(tmp_path / "none")

    def test_not_a_run_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"not a run folder: it has no config\.yaml"):
            RunFolder.open(tmp_path)
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"not a run folder: it is a file"):
            RunFolder.open(tmp_path / "file")

    def test_newer_format(self, folder):
        (folder.path / "run.json").write_text('{"format_version": 99}')
        with pytest.raises(UserError, match=r"newer dnicomm.* 99, .* up to 1\. Update dnicomm"):
            RunFolder.open(folder.path)

    @pytest.mark.parametrize(
        "text", ["", "{", "[1]", "{}", '{"format_version": "1"}', '{"format_version": true}']
    )
    def test_damaged_format(self, folder, text):
        (folder.path / "run.json").write_text(text)
        with pytest.raises(UserError, match=r"run\.json is damaged"):
            RunFolder.open(folder.path)

    def test_format_missing(self, folder):
        (folder.path / "run.json").unlink()
        with pytest.raises(UserError, match=r"has no run\.json"):
            RunFolder.open(folder.path)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"env: [1,",
            b"word",
            b"- 1",
            b"\xff\xfe\x00",
            b"a: !!python/object/apply:os.getcwd []",
        ],
        ids=["empty", "cut", "word", "list", "bytes", "code"],
    )
    def test_damaged_configuration(self, folder, content):
        (folder.path / "config.yaml").write_bytes(content)
        with pytest.raises(UserError, match=r"config\.yaml is damaged: .+\.$") as caught:
            RunFolder.open(folder.path)
        assert "\n" not in str(caught.value)

    def test_reading_resolves_nothing(self, folder):
        called = []
        OmegaConf.register_new_resolver("touch", lambda: called.append(1), replace=True)
        (folder.path / "config.yaml").write_text("a: ${touch:}")
        assert RunFolder.open(folder.path).config == {"a": "${touch:}"}
        assert called == []


RECORDS = [{"time": t, "loss": 1 / (t + 3), "agents": {"a": [t, "λ"]}} for t in range(0, 40, 10)]


@pytest.fixture
def measured(folder):
    for record in RECORDS:
        folder.append_metrics(record)
    return folder


class TestMetrics:
    def test_come_back_bit_for_bit(self, measured):
        assert RunFolder.open(measured.path).metrics() == RECORDS

    def test_none_yet(self, folder):
        assert folder.metrics() == []

    def test_one_line_of_json_each(self, measured):
        lines = (measured.path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == RECORDS

    def test_no_number_but_json_numbers(self, folder):
        folder.append_metrics(
            {
                "time": np.int64(1),
                "a": math.nan,
                "b": [math.inf, -math.inf, np.float32(0.5)],
                "c": (np.float64("nan"), np.array([1, 2]), np.bool_(True)),
            }
        )
        expected = {"time": 1, "a": None, "b": [None, None, 0.5], "c": [None, [1, 2], True]}
        assert folder.metrics() == [expected]

    def test_torn_anywhere_in_the_last_line(self, measured):
        path = measured.path / "metrics.jsonl"
        whole = path.read_bytes()
        start = whole[:-1].rindex(b"\n") + 1
        for end in range(start, len(whole)):
            path.write_bytes(whole[:end])
            # only the newline is missing at the last of these
            kept = RECORDS if end == len(whole) - 1 else RECORDS[:-1]
            assert measured.metrics() == kept
            measured.append_metrics({"time": 99})
            assert measured.metrics() == [*kept, {"time": 99}]

    def test_torn_first_line(self, folder):
        (folder.path / "metrics.jsonl").write_bytes(b'{"ti')
        assert folder.metrics() == []
        folder.append_metrics({"time": 0})
        assert folder.metrics() == [{"time": 0}]

    @pytest.mark.parametrize("line", [b'{"time": 1', b"", b"3", b"\xff"])
    def test_damage_before_the_end_is_named(self, measured, line):
        path = measured.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines()
        lines[1] = line
        path.write_bytes(b"\n".join(lines) + b"\n")
        with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
            measured.metrics()

    @pytest.mark.parametrize(("time", "kept"), [(-1, 0), (0, 1), (15, 2), (20, 3), (99, 4)])
    def test_truncate(self, measured, time, kept):
        before = (measured.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        measured.truncate_metrics(time)
        assert measured.metrics() == RECORDS[:kept]
        assert (measured.path / "metrics.jsonl").read_bytes() == b"".join(before[:kept])

    def test_truncate_cuts_a_torn_line(self, measured):
        with (measured.path / "metrics.jsonl").open("a") as file:
            file.write('{"time": 40')
        measured.truncate_metrics(40)
        assert measured.metrics() == RECORDS

    def test_truncate_without_metrics(self, folder):
        folder.truncate_metrics(3)
        assert folder.metrics() == []

    def test_truncate_without_time(self, folder):
        folder.append_metrics({"loss": 1})
        with pytest.raises(UserError, match="line 1 is damaged: no time"):
            folder.truncate_metrics(3)


class TestSummary:
    def test_comes_back(self, folder):
        assert folder.summary() is None
        folder.write_summary({"accuracy": 0.5, "loss": math.nan})
        folder.write_summary({"accuracy": 0.75, "loss": math.inf})
        assert folder.summary() == {"accuracy": 0.75, "loss": None}

    def test_a_kill_leaves_the_old_one(self, folder, monkeypatch):
        folder.write_summary({"accuracy": 0.5})

        def kill(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr("dnicomm.runs.atomic.os.fsync", kill)
        with pytest.raises(KeyboardInterrupt):
            folder.write_summary({"accuracy": 0.75})
        assert folder.summary() == {"accuracy": 0.5}
        assert sorted(os.listdir(folder.path)) == ["config.yaml", "run.json", "summary.json"]

    def test_a_leftover_is_passed_over(self, folder):
        (folder.path / "summary.json.tmp").write_text('{"accu')
        assert folder.summary() is None
        folder.write_summary({"accuracy": 0.5})
        assert folder.summary() == {"accuracy": 0.5}

    def test_damage_is_named(self, folder):
        (folder.path / "summary.json").write_text('{"accu')
        with pytest.raises(UserError, match=r"summary\.json is damaged"):
            folder.summary()


def test_versions():
    found = versions()
    assert {"dnicomm", "python", "torch", "numpy", "pettingzoo"} <= set(found)
    assert json.loads(json.dumps(found)) == found
