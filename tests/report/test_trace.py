"""The trace keeps to Chrome's trace-event format, by the rules that its document states.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

import json
from collections import defaultdict

import pytest

from dnicomm.report import read_run
from dnicomm.report.trace import MOST_EVENTS, trace, write_trace
from dnicomm.runs import RunFolder

# by phase: what an event of it has to have, and what else it may have
REQUIRED = {
    "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid"},
    "i": {"name", "cat", "ph", "ts", "pid", "tid", "s"},
    "s": {"name", "cat", "ph", "ts", "pid", "tid", "id"},
    "f": {"name", "cat", "ph", "ts", "pid", "tid", "id", "bp"},
    "C": {"name", "ph", "ts", "pid", "tid", "args"},
    "M": {"name", "ph", "pid", "tid", "args"},
}
METADATA = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}


@pytest.fixture
def view(make_run, tmp_path):
    return read_run(make_run(tmp_path / "run"))


def events(view, phase):
    return [event for event in trace(view)["traceEvents"] if event["ph"] == phase]


def test_it_is_json_with_the_format_s_keys(view):
    target = write_trace(view)
    assert target.name == "trace.json"
    found = json.loads(target.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert set(found) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert found["displayTimeUnit"] in ("ms", "ns")
    assert "1st, 2nd, 4th, 8th" in found["otherData"]["sampling"]


def test_each_event_has_what_its_phase_asks_for(view):
    for event in trace(view)["traceEvents"]:
        assert event["ph"] in REQUIRED
        assert REQUIRED[event["ph"]] <= set(event) <= REQUIRED[event["ph"]] | {"args"}
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] != "M":
            assert isinstance(event["ts"], int)
            assert event["ts"] >= 0
        else:
            assert METADATA[event["name"]] in event["args"]
    assert all(event["dur"] > 0 for event in events(view, "X"))
    assert all(event["s"] in "gpt" for event in events(view, "i"))
    assert all(isinstance(v, float) for event in events(view, "C") for v in event["args"].values())


def test_slices_of_a_thread_nest(view):
    """Two slices either lie apart or one inside of the other."""
    threads = defaultdict(list)
    for event in events(view, "X"):
        threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in threads.values():
        open_until = []
        for start, end in sorted(slices, key=lambda pair: (pair[0], -pair[1])):
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_flows_begin_at_a_tick_and_end_at_an_arrival(view):
    slices = {(e["tid"], e["ts"]): e["name"] for e in events(view, "X")}
    ends = {event["id"]: event for event in events(view, "f")}
    begins = events(view, "s")
    assert len(begins) == len(ends) > 10
    for begin in begins:
        end = ends[begin["id"]]
        assert begin["ts"] < end["ts"]
        assert slices[begin["tid"], begin["ts"]] == "tick"
        assert slices[end["tid"], end["ts"]] == "arrived"
        assert end["bp"] == "e"


def test_what_happened_is_in_it(view):
    columns = [r.columns for r in view.recordings]
    count = {kind: sum(len(c[kind]) for c in columns) for kind in ("tick.time", "update.time")}
    named = [event["name"] for event in trace(view)["traceEvents"]]
    assert named.count("tick") == count["tick.time"]
    assert named.count("update") == count["update.time"]
    assert named.count("message lost") == sum((c["message.lost"] == 1).sum() for c in columns)
    assert named.count("arrived") == sum((c["message.lost"] == 0).sum() for c in columns)
    assert named.count("true gradient") == sum((c["message.reads"] > 0).sum() for c in columns)
    assert named.count("thread_name") == 4


def test_it_is_bounded(make_run, make_recording, tmp_path):
    path = make_run(tmp_path / "run", recorded=False)
    run, length = RunFolder.open(path), 700
    for number in range(12):
        run.save_recording(number, *make_recording(4, length, length * number))
    view = read_run(path)
    ticks, messages = events(view, "X"), events(view, "s")
    assert len([e for e in ticks if e["name"] == "tick"]) + len(messages) <= MOST_EVENTS
    assert write_trace(view).stat().st_size < 8_000_000
    assert "as many as there is room for" in trace(view)["otherData"]["sampling"]
    assert 11 * length in trace(view)["otherData"]["recorded"]


def test_of_nothing_recorded_there_is_no_trace(make_run, tmp_path):
    view = read_run(make_run(tmp_path / "run", recorded=False))
    assert trace(view) is None
    assert write_trace(view) is None
    assert not (view.path / "trace.json").exists()
