"""The server of one run's page: for this machine, read-only."""

import http.client
import socket
import threading

import pytest

from dnicomm.errors import UserError
from dnicomm.report.serve import Server


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "run", ended=False)


@pytest.fixture
def server(run):
    with Server(run) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


def test_it_shows_the_page(server):
    answer, body = ask(server)
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "still" not in answer.getheader("Cache-Control")
    assert "Learning curves" in body
    assert ask(server, Host=f"localhost:{server.server_port}")[0].status == 200


def test_the_version_changes_with_the_run(server, run):
    before = ask(server, "/version")[1]
    assert ask(server, "/version")[1] == before
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"time": 900, "metrics": {"accuracy": 0.125}}\n')
    assert ask(server, "/version")[1] != before
    assert "0.125" in ask(server)[1]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "a.b:80", ""])
@pytest.mark.parametrize("path", ["/", "/version"])
def test_another_name_for_this_machine_is_refused(server, host, path):
    """Against DNS rebinding: a page elsewhere whose name comes to mean 127.0.0.1."""
    answer, body = ask(server, path, Host=host)
    assert answer.status == 403
    assert "accuracy" not in body


def test_no_other_site_may_read_or_embed_it(server):
    for path in ("/", "/version", "/no"):
        answer, _ = ask(server, path, Origin="https://evil.example")
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("X-Frame-Options") == "DENY"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(server, run, method):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert ask(server, method=method)[0].status == 501
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", ["/config.yaml", "/../config.yaml", "/%2e%2e/run.json", "//x/"])
def test_there_is_one_page_and_no_files(server, path):
    answer, body = ask(server, path)
    assert answer.status == 404
    assert "overrides" not in body


def test_a_head_has_no_body(server):
    answer, body = ask(server, method="HEAD")
    assert (answer.status, body) == (200, "")


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_a_run_that_vanishes_is_said(server, run):
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).unlink()
    answer, body = ask(server)
    assert answer.status == 404
    assert "is not a run folder" in body


def test_a_port_that_is_taken(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            Server(run, taken.getsockname()[1])


def test_what_is_no_run_is_not_served(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        Server(tmp_path)
