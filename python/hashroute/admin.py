"""The admin pages over HTTP: what is on them is in ``hashroute.pages``.

Only GET and HEAD, one request a connection, for machines and operators of the same network. All
work is bounded: connections at once, time a connection, bytes a request.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from hashroute.errors import HashrouteError, StartError
from hashroute.pages import HTML, TEXT, Answer

if TYPE_CHECKING:
    from hashroute.pages import Pages

__all__ = ["AdminServer"]

CONNECTIONS_MAX: Final = 16
"""Connections at once, each with a thread. More wait until one ends, which they do in time."""

CONNECTION_SECONDS_MAX: Final = 10.0
"""Longer than any answer takes; a connection that is open still is cut."""

_POLL_SECONDS: Final = 0.1

_log = logging.getLogger(__name__)


class AdminServer:
    """Serves the admin pages of one process.

    Args:
        pages: what is shown.
        address: where to listen, as ``host:port``; port 0 lets the system choose.

    Raises:
        StartError: nothing can listen there.
    """

    def __init__(self, pages: Pages, address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server = _Server((host.strip("[]"), int(port)), pages)
        except OSError as error:
            raise StartError(
                f"listen.admin: cannot listen on {address}: {error.strerror or error}; choose "
                'another, or write "" for no admin pages',
                address=address,
            ) from error
        self.address = f"{host}:{self._server.server_address[1]}"
        """Where it listens, with the port that it got."""
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _POLL_SECONDS},
            name="hr-admin",
        )
        self._thread.daemon = True
        self._thread.start()

    def stop(self) -> None:
        """Takes no more connections, cuts those that are open, and returns when all is over."""
        self._server.is_closing = True
        self._server.shutdown()
        self._thread.join()
        self._server.cut_connections(older_than_seconds=0.0)
        self._server.server_close()


class _Server(ThreadingMixIn, HTTPServer):
    """An HTTP server with a bound on its connections and on the time of each."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.pages = pages
        self._opened_seconds: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.is_closing = False
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # The base class looks its own name up, which may ask a name server and wait for it.
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = "hashroute", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._free.acquire(timeout=_POLL_SECONDS):
            if self.is_closing:
                self.shutdown_request(request)
                return
            self.service_actions()
        with self._lock:
            self._opened_seconds[request] = time.monotonic()
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._lock:
            was_open = self._opened_seconds.pop(request, None) is not None
        super().close_request(request)
        if was_open:
            self._free.release()

    def service_actions(self) -> None:
        self.cut_connections(older_than_seconds=CONNECTION_SECONDS_MAX)

    def cut_connections(self, *, older_than_seconds: float) -> None:
        """Shuts connections that are open for longer; their threads then see the end of file."""
        latest = time.monotonic() - older_than_seconds
        with self._lock:
            late = [request for request, at in self._opened_seconds.items() if at <= latest]
            for request in late:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    _log.debug("already closed", extra={"facts": {"error": error}})

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # A caller that goes away is no event; what else goes wrong is a defect.
        level = logging.DEBUG if isinstance(sys.exception(), OSError) else logging.ERROR
        facts = {"peer": client_address[0]}
        _log.log(level, "admin connection", exc_info=True, extra={"facts": facts})


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CONNECTION_SECONDS_MAX
    server_version = "hashroute"
    sys_version = ""

    def __getattr__(self, name: str) -> Any:
        """Answers 405 where the base class would answer 501: the other methods are known."""
        if name.startswith("do_"):
            return self._not_allowed
        raise AttributeError(name)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        try:
            answer = self.server.pages.get(path, self.headers.get("Accept", ""))
        except HashrouteError as error:  # the sidecar has just stopped
            answer = Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{error}\n")
        self._send(answer, with_body=with_body)

    def _not_allowed(self) -> None:
        answer = Answer(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n")
        self._send(answer, with_body=True, allow="GET, HEAD")

    def _send(self, answer: Answer, *, with_body: bool, allow: str | None = None) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if answer.content_type == HTML:
            self.send_header("Content-Security-Policy", _PAGE_POLICY)
        if allow is not None:
            self.send_header("Allow", allow)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        # Scrapes come every few seconds; they are no events.
        _log.debug(format, *args)


# The page is one file and asks this server alone; a name that slipped through could do nothing.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
