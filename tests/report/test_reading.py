"""Run folders in every state: what can be shown is shown, and what is missing is said."""

import fcntl
import json

import numpy as np
import pytest

from dnicomm.errors import UserError
from dnicomm.report import read_run, report, write_report, write_reports


def missing(path):
    return "\n".join(read_run(path).missing)


def test_a_whole_run_misses_nothing(make_run, tmp_path):
    view = read_run(make_run(tmp_path / "run"))
    assert view.missing == []
    assert (view.state, view.figure, view.result) == ("ended", "accuracy", 0.9)
    assert len(view.recordings) == 2


def test_what_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, what in (("no", "not there"), ("file", "a file"), ("empty", "has no config.yaml")):
        with pytest.raises(UserError, match=what):
            read_run(tmp_path / name)
    (tmp_path / "empty" / "multirun.yaml").touch()
    with pytest.raises(UserError, match="a sweep"):
        read_run(tmp_path / "empty")


def test_a_run_without_an_evaluation(make_run, tmp_path):
    path = make_run(tmp_path / "run", evaluations=0, ended=False, recorded=False)
    assert "no evaluation yet" in missing(path)
    assert "dnicomm resume" in missing(path)
    assert "Nothing has been measured yet" in write_report(path).read_text()


def test_a_run_that_goes_on(make_run, tmp_path):
    path = make_run(tmp_path / "run", ended=False)
    with (path / "run.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the process at work does
        assert read_run(path).state == "running"
        assert "still going on" in missing(path)
    assert read_run(path).state == "stopped"


def test_a_run_of_a_newer_version(make_run, tmp_path):
    path = make_run(tmp_path / "run")
    (path / "run.json").write_text('{"format_version": 99}')
    assert "newer dnicomm" in missing(path)
    page = write_report(path).read_text()
    assert "newer dnicomm" in page
    assert "accuracy 0.900" in page


@pytest.mark.parametrize("name", ["run.json", "summary.json", "config.yaml", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b"[1, 2]", b'{"a": ', b"null"])
def test_a_damaged_file_is_named_and_the_rest_shown(name, content, make_run, tmp_path):
    path = make_run(tmp_path / "run")
    (path / name).write_bytes(content)
    page = write_report(path).read_text()
    if (name, content) != ("metrics.jsonl", b""):
        assert name in missing(path)
    assert "<h2" in page
    if name != "config.yaml":
        assert "the whole configuration" in page


@pytest.mark.parametrize("value", [None, 3, "x", [], {"accuracy": "high"}, {"accuracy": {}}])
@pytest.mark.parametrize("key", ["time", "metrics", "channels", "agents"])
def test_records_of_other_shapes_are_no_reason_to_fail(key, value, make_run, tmp_path):
    path = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    lines[2][key] = value
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps(summary | {key: value}))
    assert "<h2" in write_report(path).read_text()


def test_a_damaged_recording_is_left_out(make_run, tmp_path):
    path = make_run(tmp_path / "run")
    (broken, _) = sorted((path / "recordings").iterdir())
    content = bytearray(broken.read_bytes())
    content[-3] ^= 1
    broken.write_bytes(content)
    view = read_run(path)
    assert [r.time for r in view.recordings] == [600]
    assert "000000000100.safetensors is damaged" in missing(path)
    broken.write_bytes(b"not safetensors at all")
    assert "is damaged" in missing(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("tick.agent", 9), ("message.channel", -1), ("update.agent", 400), ("reward.agent", 4)],
)
def test_a_recording_that_points_elsewhere_is_left_out(
    column, value, make_run, make_recording, tmp_path
):
    from dnicomm.runs import RunFolder

    path = make_run(tmp_path / "run", recorded=False)
    columns, facts = make_recording(4)
    columns[column][0] = value
    RunFolder.open(path).save_recording(600, columns, facts)
    view = read_run(path)
    assert view.recordings == []
    assert "1 recording of episodes can't be shown" in missing(path)
    assert "neither a play-by-play nor a timeline" in missing(path)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("tick.time", lambda c: c * np.float32("nan")),
        ("message.arrival", lambda c: c.astype(np.float64)),
        ("message.sent", lambda c: c.astype(np.int64) + 10**13),
        ("update.time", lambda c: c[:, None]),
        ("vector.label", lambda c: c[:0]),
        ("vector.value", lambda c: c[:, 0]),
        ("vector.channel", lambda c: c + 7),
        ("reward.value", lambda c: c.astype(bool)),
    ],
)
def test_a_recording_of_another_shape_is_left_out(
    column, change, make_run, make_recording, tmp_path
):
    from dnicomm.runs import RunFolder

    path = make_run(tmp_path / "run", recorded=False)
    columns, facts = make_recording(4)
    columns[column] = change(columns[column])
    RunFolder.open(path).save_recording(600, columns, facts)
    assert read_run(path).recordings == []
    write_report(path)


@pytest.mark.parametrize(
    ("fact", "value"),
    [("agents", [[]]), ("edges", [[[], []]]), ("edges", 3), ("starts", [None]), ("until", 0),
     ("began", 10**20), ("true_share", "x"), ("num_worlds", None)],
)  # fmt: skip
def test_a_recording_with_other_facts_is_left_out(fact, value, make_run, make_recording, tmp_path):
    from dnicomm.runs import RunFolder

    path = make_run(tmp_path / "run", recorded=False)
    columns, facts = make_recording(4)
    RunFolder.open(path).save_recording(600, columns, facts | {fact: value})
    assert read_run(path).recordings == []
    write_report(path)


def test_runs_of_the_same_sweep_stand_beside_each_other(make_run, tmp_path):
    sweep = tmp_path / "sweep"
    for number, (feedback, reached) in enumerate([("synthetic", 0.9), ("none", 0.6), ("exact", 1)]):
        make_run(sweep / f"{number}-{feedback}", feedback=feedback, accuracy=reached)
    make_run(sweep / "3-other", feedback="none", accuracy=0.1, config={"steps": 7})
    (sweep / "multirun.yaml").touch()
    write_reports(sweep)
    page = (sweep / "0-synthetic" / "report.html").read_text()
    assert "in the same sweep none 0.600 and exact 1.000" in page
    assert page == write_report(sweep / "0-synthetic").with_name("report.html").read_text()
    assert "in the same sweep" not in report(read_run(sweep / "0-synthetic"))


def test_curves_of_several_seeds_have_a_spread(make_run, tmp_path):
    sweep = tmp_path / "sweep"
    for seed, reached in enumerate([0.6, 0.9]):
        make_run(sweep / f"{seed}-run", seed=seed, accuracy=reached)
    (sweep / "multirun.yaml").touch()
    page = write_report(sweep / "0-run").read_text()
    assert "lowest and highest of 2 seeds" in page
    assert '"low":[0.1,' in page
    assert '"high":[0.15,' in page
