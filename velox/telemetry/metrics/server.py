"""A small HTTP server for scrapes, on one thread.

It answers ``GET /metrics`` and ``GET /ready``, one request a connection. Its memory and its time
are bounded whatever a client does: `MOST_CONNECTIONS` at once, `MOST_REQUEST_BYTES` a request,
`DEADLINE_S` a connection. A body is rendered at most every `BODY_AGE_S`, and shared by all clients.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client.exposition import generate_latest as text_of
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of

from velox.errors import ConfigError
from velox.runtime.snapshot import Snapshot
from velox.telemetry.metrics.families import Host, families
from velox.telemetry.metrics.protobuf import CONTENT_TYPE as PROTOBUF
from velox.telemetry.metrics.protobuf import encode

__all__ = ["MetricsServer", "parse_address"]

MOST_CONNECTIONS = 16
MOST_REQUEST_BYTES = 8 * 1024
DEADLINE_S = 2.0
BODY_AGE_S = 0.2
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; a host in brackets is an IPv6 address.

    Raises
    ------
    ConfigError
        It is of another form, or the port is not 0 to 65535.

    Examples
    --------
    >>> parse_address("127.0.0.1:9464"), parse_address("[::1]:0")
    (('127.0.0.1', 9464), ('::1', 0))
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host.strip("[]") if bracketed else host
    valid = colon and plain and port.isascii() and port.isdecimal() and int(port) < 65536
    if not valid or (":" in plain and not bracketed):
        raise ConfigError("must be HOST:PORT, as in 127.0.0.1:9464", field="metrics", value=text)
    return plain, int(port)


class _Registry:
    """What prometheus-client's writers ask for: something that can be collected."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


@dataclass(slots=True)
class _Client:
    """A connection: what it has asked so far, then what it is still to be sent."""

    socket: socket.socket
    deadline_s: float
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class MetricsServer:
    """Serves the metrics of a pipeline, from `start` to `stop` or to the end of a ``with`` block.

    Parameters
    ----------
    address : (str, int)
        Where to listen. Port 0 lets the system choose one.
    snapshot : callable
        `Pipeline.snapshot`.
    host : Host

    Attributes
    ----------
    address : (str, int)
        Where it listens, once it has started.
    scrapes, refused : int
        Requests that were answered with metrics, and requests that were refused.

    Raises
    ------
    OSError
        `start`: the address is taken, or not of this machine.

    Notes
    -----
    Thread-safety: `start` and `stop` belong to one thread. The server's own thread takes the
    snapshots.
    """

    def __init__(
        self, address: tuple[str, int], snapshot: Callable[[], Snapshot], host: Host
    ) -> None:
        self.address = address
        self.scrapes = 0
        self.refused = 0
        self._snapshot = snapshot
        self._host = host
        self._bodies: dict[str, tuple[float, bytes]] = {}
        self._clients: dict[int, _Client] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, and start the thread."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self._listener = socket.create_server(self.address, family=family, backlog=MOST_CONNECTIONS)
        self._listener.setblocking(False)
        name = self._listener.getsockname()
        self.address = name[0], name[1]
        self._wake_up, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="velox-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close every connection. It may be called twice."""
        if self._thread is None:
            return
        self._wake_up.send(b"x")
        self._thread.join()
        self._thread = None
        for client in list(self._clients.values()):
            self._close(client)
        for each in (self._listener, self._wake_up, self._woken):
            each.close()
        self._selector.close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._talk(self._clients[key.fd])
            now = time.monotonic()
            for client in [each for each in self._clients.values() if each.deadline_s <= now]:
                if client.answer is None:
                    # A client that is slow to ask is told so; one that is slow to read is not.
                    self._refuse(client, 408)
                    self._send(client)
                self._close(client)

    def _patience(self) -> float | None:
        """Seconds until the next connection's deadline."""
        if not self._clients:
            return None
        soonest = min(client.deadline_s for client in self._clients.values())
        return max(0.0, soonest - time.monotonic())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went away, or there are no descriptors left
        connection.setblocking(False)
        if len(self._clients) >= MOST_CONNECTIONS:
            # The connection that has waited longest makes room: a new scrape is worth more.
            self._close(min(self._clients.values(), key=lambda client: client.deadline_s))
        client = _Client(connection, time.monotonic() + DEADLINE_S)
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ)

    def _talk(self, client: _Client) -> None:
        if client.answer is None:
            try:
                read = client.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                read = b""
            if not read:
                self._close(client)
                return
            client.request += read
            if b"\r\n\r\n" in client.request or b"\n\n" in client.request:
                self._answer(client)
            elif len(client.request) > MOST_REQUEST_BYTES:
                self._refuse(client, 431)
            else:
                return
            self._selector.modify(client.socket, selectors.EVENT_WRITE)
        self._send(client)

    def _send(self, client: _Client) -> None:
        assert client.answer is not None
        try:
            sent = client.socket.send(client.answer)
        except BlockingIOError:
            return
        except OSError:
            sent = len(client.answer)
        client.answer = client.answer[sent:]
        if not client.answer:
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)
            self._close(client)

    def _close(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            self._selector.unregister(client.socket)
            client.socket.close()

    def _refuse(self, client: _Client, status: int) -> None:
        self.refused += 1
        client.answer = memoryview(_answer(status, "text/plain", REASONS[status].encode() + b"\n"))

    def _answer(self, client: _Client) -> None:
        if len(client.request) > MOST_REQUEST_BYTES:
            self._refuse(client, 431)
            return
        first, *lines = bytes(client.request).decode("latin-1").splitlines()
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._refuse(client, 400)
            return
        method, target = words[0], words[1].partition("?")[0]
        if target not in ("/metrics", "/ready"):
            self._refuse(client, 404)
        elif method not in ("GET", "HEAD"):
            self._refuse(client, 405)
        elif target == "/ready":
            self._tell_readiness(client)
        else:
            accepted = next(
                (line[7:] for line in lines if line.lower().startswith("accept:")), ""
            ).strip()
            content_type = chosen(accepted)
            try:
                body = self._body(content_type)
            except Exception as error:
                # A scrape must not end the server, and the reader must see what failed.
                self.refused += 1
                told = f"{type(error).__name__}\n".encode()
                client.answer = memoryview(_answer(500, "text/plain", told))
                return
            self.scrapes += 1
            client.answer = memoryview(_answer(200, content_type, body, head=method == "HEAD"))

    def _tell_readiness(self, client: _Client) -> None:
        state = self._snapshot().state
        status = 200 if state == "running" else 503
        client.answer = memoryview(_answer(status, "text/plain", state.encode() + b"\n"))

    def _body(self, content_type: str) -> bytes:
        made, body = self._bodies.get(content_type, (float("-inf"), b""))
        now = time.monotonic()
        if now - made >= BODY_AGE_S:
            snapshot = self._snapshot()
            metrics = list(families(snapshot, self._host))
            if content_type == PROTOBUF:
                body = encode(metrics, snapshot.latency)
            else:
                write = openmetrics_of if content_type == OPENMETRICS else text_of
                body = write(_Registry(metrics))
            self._bodies[content_type] = now, body
        return body


def chosen(accepted: str) -> str:
    """Return the content type that suits an Accept header best.

    Parameters
    ----------
    accepted : str
        The header's value. Among equal weights the first wins, as Prometheus means it.
    """
    best, weight = TEXT, 0.0
    for part in accepted.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        found = None
        if name == "application/vnd.google.protobuf" and "encoding=delimited" in parameters:
            found = PROTOBUF
        elif name == "application/openmetrics-text":
            versions = [each for each in parameters if each.startswith("version=")]
            found = OPENMETRICS if versions in ([], ["version=1.0.0"]) else None
        elif name in ("text/plain", "text/*", "*/*"):
            found = TEXT
        if found is not None and quality > weight:
            best, weight = found, quality
    return best


def _answer(status: int, content_type: str, body: bytes, *, head: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {REASONS[status]}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(["Allow: GET, HEAD"] if status == 405 else []),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + (b"" if head else body)
