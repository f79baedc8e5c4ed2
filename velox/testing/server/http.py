"""An HTTP/1.1 server on a socket of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import parse_qsl

from velox.testing.server.guard import allows_host, allows_origin
from velox.testing.server.head import BadRequestError, RequestHead, parse_head
from velox.testing.server.jsonrpc import Reply, Request
from velox.testing.server.loop import BACKLOG, LoopThread

__all__ = ["HttpServer"]

# What a Solana node takes at most.
MAX_BODY_BYTES = 50 * 1024
MAX_HEAD_BYTES = 16 * 1024
# From the first byte of a request to its last.
REQUEST_TIMEOUT_S = 10.0
# Beyond this many connections, the one that was idle for longest is closed.
MAX_CONNECTIONS = 1_000

_VERBS = "GET, OPTIONS, POST"


class HttpServer:
    """Serves a listening socket until `close`.

    All connections share the thread of a `LoopThread`, and requests are answered one after the
    other: each of them would wait for the chain's lock anyway.

    Parameters
    ----------
    listener : socket.socket
        A listening socket; `close` closes it.
    post, get : callable
        From a `Request` to a `Reply`.
    thread : LoopThread
    """

    def __init__(
        self,
        listener: socket.socket,
        post: Callable[[Request], Reply],
        get: Callable[[Request], Reply],
        thread: LoopThread,
    ) -> None:
        self._post = post
        self._get = get
        self._thread = thread
        # The open connections, the one that was used last at the end.
        self._open: OrderedDict[asyncio.StreamWriter, None] = OrderedDict()
        self._server = thread.run(
            asyncio.start_server(self._serve, sock=listener, limit=MAX_HEAD_BYTES, backlog=BACKLOG)
        )

    def close(self) -> None:
        """Stop serving, and close every connection."""
        self._thread.run(self._close())

    async def _close(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MAX_CONNECTIONS:
            next(iter(self._open)).transport.abort()
        try:
            # OSError and IncompleteReadError: the client went away.
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                while await self._serve_one(reader, writer):
                    self._open.move_to_end(writer)
        finally:
            del self._open[writer]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open."""
        begin = await reader.readexactly(1)
        origin = None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                try:
                    raw = begin + await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    raise BadRequestError(
                        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long"
                    ) from None
                head = parse_head(raw)
                _admit(head)
                origin = head.headers.get("origin", [None])[0]
                body = await _body(head, reader, writer)
            reply = self._answer(head, body, _client_of(writer))
            keep = head.keep_alive
        except BadRequestError as error:
            # The body was not read, so the connection cannot be used again.
            reply, keep = _refusal(error), False
        if reply.lost:
            writer.transport.abort()
            return False
        writer.write(_response(reply, origin, keep))
        await writer.drain()
        return keep

    def _answer(self, head: RequestHead, body: bytes, client: str) -> Reply:
        request = Request(
            path=head.path,
            query=dict(parse_qsl(head.query)),
            headers={name: ", ".join(values) for name, values in head.headers.items()},
            body=body,
            client=client,
        )
        if head.verb == "POST":
            return self._post(request)
        if head.verb == "GET":
            return self._get(request)
        return Reply(
            HTTPStatus.NO_CONTENT,
            headers={
                "Access-Control-Allow-Methods": _VERBS,
                "Access-Control-Allow-Headers": request.headers.get(
                    "access-control-request-headers", "content-type"
                ),
                "Access-Control-Max-Age": "86400",
            },
        )


def _admit(head: RequestHead) -> None:
    """Refuse what is not for this server, or comes from a page of another site."""
    # A target may name a host, too, and that one counts before the header (RFC 9112, 3.2.2).
    for hosts in (head.headers.get("host", []), [head.authority or "localhost"]):
        if not allows_host(hosts):
            raise BadRequestError(HTTPStatus.MISDIRECTED_REQUEST, "Host must name this machine")
    if not allows_origin(head.headers.get("origin", [])):
        raise BadRequestError(HTTPStatus.FORBIDDEN, "Origin must be a page of this machine")
    if head.verb not in ("GET", "OPTIONS", "POST"):
        raise BadRequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"must be one of {_VERBS}")


async def _body(
    head: RequestHead, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    length = head.content_length()
    if length is None:
        if head.verb == "POST":
            raise BadRequestError(HTTPStatus.LENGTH_REQUIRED, "needs a Content-Length")
        return b""
    if length > MAX_BODY_BYTES:
        raise BadRequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes"
        )
    if [each.lower() for each in head.headers.get("expect", [])] == ["100-continue"]:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await reader.readexactly(length)


def _client_of(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return str(name[0]) if name else ""


def _refusal(error: BadRequestError) -> Reply:
    headers = {"Allow": _VERBS} if error.status is HTTPStatus.METHOD_NOT_ALLOWED else {}
    text = f"{error.status.phrase}: {error.why}"
    return Reply(error.status, text.encode(), headers, content_type="text/plain")


def _response(reply: Reply, origin: str | None, keep: bool) -> bytes:
    headers = {"Server": "velox-localnet", **reply.headers}
    if reply.status != HTTPStatus.NO_CONTENT:
        headers["Content-Type"] = reply.content_type
        headers["Content-Length"] = str(len(reply.body))
    if origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Vary"] = "Origin"
    if not keep:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {int(reply.status)} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
