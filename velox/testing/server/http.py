"""HTTP/1.1 on a socket of this machine, a thread for each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from velox.errors import ThreadError
from velox.runtime.threads import start_thread
from velox.testing.server.jsonrpc import Reply, Request

__all__ = ["HttpServer"]

# What a Solana node takes at most.
MAX_BODY_BYTES = 50 * 1024


class HttpServer:
    """Serves a listening socket until `close`, which leaves no thread behind.

    Parameters
    ----------
    listener : socket.socket
        It listens already; `close` closes it.
    post, get : callable
        From a `Request` to a `Reply`, called on the connection's thread.
    """

    def __init__(
        self,
        listener: socket.socket,
        post: Callable[[Request], Reply],
        get: Callable[[Request], Reply],
    ) -> None:
        self.post = post
        self.get = get
        self._server = _Server(listener, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="velox-http", daemon=True
        )
        start_thread(self._thread)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(TCPServer):
    def __init__(self, listener: socket.socket, owner: HttpServer) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.owner = owner
        self._open: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="velox-http", daemon=True
        )
        with self._lock:
            self._open[thread] = request
        try:
            start_thread(thread)
        except ThreadError:
            # The client is turned away.
            with self._lock:
                del self._open[thread]
            self.shutdown_request(request)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away
        finally:
            # First forgotten, then closed: `server_close` never meets a number that another
            # socket has taken over.
            with self._lock:
                del self._open[threading.current_thread()]
            self.shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            threads = list(self._open)
            for connection in self._open.values():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "velox-localnet"
    sys_version = ""
    # One packet a reply, at once.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                self.close_connection = True
            else:
                self._send(self.server.owner.post(self._request(body)))

    def do_GET(self) -> None:
        self._send(self.server.owner.get(self._request(b"")))

    def _request(self, body: bytes) -> Request:
        parts = urlsplit(self.path)
        return Request(
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            client=str(self.client_address[0]),
        )

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer without having read the body, which ends the connection."""
        self.close_connection = True
        self._send(
            Reply(
                status, status.phrase.encode(), {"Connection": "close"}, content_type="text/plain"
            )
        )

    def _send(self, reply: Reply) -> None:
        if reply.lost:
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass
