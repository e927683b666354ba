"""The report of a run that goes on, served on this machine alone, read-only."""

from __future__ import annotations

import http.server
from http import HTTPStatus
from pathlib import Path
from typing import Any

from dnicomm.errors import UserError
from dnicomm.report.reading import read_run, siblings
from dnicomm.report.run_report import report
from dnicomm.runs.bounds import as_written

ADDRESS = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    # no other site may embed or read it; that there is no Access-Control header does the rest
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
WATCHED = ("config.yaml", "metrics.jsonl", "summary.json", "communication.json", "recordings")


class Server(http.server.ThreadingHTTPServer):
    """Answers ``GET /`` with the page and ``GET /version`` with what changes when the run does.

    Args:
        path: folder of the run.
        port: to listen at; 0: a free one.

    Raises:
        UserError: if there is nothing of a run there, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, path: Path, port: int = 0) -> None:
        read_run(path)
        self.path = path
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}. 0 takes a free one") from error
        # another site whose name is made to mean this machine still asks for its own name
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        if self.server_port == 80:
            self.hosts |= {ADDRESS, "localhost"}

    @property
    def url(self) -> str:
        """Where it is to be looked at."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def version(self) -> str:
        """A word that changes when a file of the run does."""
        found = []
        for name in WATCHED:
            try:
                facts = (self.path / name).stat()
            except OSError:
                continue
            found.append(f"{name}.{facts.st_mtime_ns:x}.{facts.st_size:x}")
        return " ".join(found)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "dnicomm", ""
    timeout = 30  # of a connection that says nothing

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, "This is served on this machine alone.\n")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, self.server.version())
        elif self.path.partition("?")[0] == "/":
            self._page()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "There is one page: /\n")

    do_HEAD = do_GET

    def _page(self) -> None:
        try:
            with as_written(str(self.server.path)):
                view = read_run(self.server.path)
                page = report(view, siblings(view), live=True)
        except UserError as error:
            self._answer(HTTPStatus.NOT_FOUND, f"{error}\n")
        else:
            self._answer(HTTPStatus.OK, page, "text/html")

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""
