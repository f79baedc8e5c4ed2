"""An HTTP server on 127.0.0.1 whose answers a test sets: right, wrong or none."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """What arrived."""

    verb: str
    target: str
    headers: dict[str, str]
    call: Any  # the JSON of the body, None without one


#: Answers one request by writing to the handler's `wfile`.
Behaviour = Callable[[BaseHTTPRequestHandler, Request], None]


class FakeServer:
    """It meets each request with the next of its behaviours, and every further one with the last.

    `released` is set when the test is over: what holds a client up waits for it.
    """

    def __init__(self, *behaviours: Behaviour, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.released = threading.Event()
        self._behaviours = list(behaviours)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are two writes

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = json.loads(body) if body else None
                request = Request(self.command, self.path, headers, call)
                fake.requests.append(request)
                waiting = fake._behaviours
                (waiting.pop(0) if len(waiting) > 1 else waiting[0])(self, request)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: object) -> None:
                pass  # a client that gives up is what many of these tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        self._scheme = "http" if context is None else "https"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def answers(self, *behaviours: Behaviour) -> None:
        """Answer so from now on."""
        self._behaviours[:] = behaviours

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """Answer with these bytes."""
    handler.send_response(status)
    for name, value in {"content-length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def document(value: object, status: int = 200, **headers: str) -> Behaviour:
    """Answer with a JSON document."""
    return lambda handler, _: send(handler, json.dumps(value).encode(), status, **headers)


def body(content: bytes, status: int = 200, **headers: str) -> Behaviour:
    """Answer with these bytes."""
    return lambda handler, _: send(handler, content, status, **headers)


def result(value: object, **headers: str) -> Behaviour:
    """Answer with a result of JSON-RPC."""

    def answer(handler: BaseHTTPRequestHandler, request: Request) -> None:
        reply = {"jsonrpc": "2.0", "id": request.call["id"], "result": value}
        send(handler, json.dumps(reply).encode(), **headers)

    return answer


def error(
    code: object, message: object, data: object = None, *, status: int = 200, **more: object
) -> Behaviour:
    """Answer with an error of JSON-RPC; ``id=None`` is one that knows no id."""

    def answer(handler: BaseHTTPRequestHandler, request: Request) -> None:
        refusal = {"code": code, "message": message, **({} if data is None else {"data": data})}
        reply = {"jsonrpc": "2.0", "id": request.call["id"], "error": refusal, **more}
        send(handler, json.dumps(reply).encode(), status)

    return answer


def raw(content: bytes) -> Behaviour:
    """Write these bytes, status line and all, and hang up."""

    def answer(handler: BaseHTTPRequestHandler, _: Request) -> None:
        handler.wfile.write(content)
        handler.close_connection = True

    return answer
