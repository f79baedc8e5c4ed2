"""The head of an HTTP/1.1 request, read strictly: what is ambiguous is refused (RFC 9112).

A proxy and a server that read an ambiguous head differently let one request hide in another. So
this reader takes no bare line ends, no folded lines, no repeated ``Content-Length``, and no
``Transfer-Encoding``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

__all__ = ["BadRequestError", "RequestHead", "parse_head"]

_REQUEST_LINE: Final = re.compile(r"([A-Z]+) ([!-~]+) HTTP/1\.([01])")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


class BadRequestError(Exception):
    """A request that is refused with a status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request.

    Attributes
    ----------
    verb : str
    authority : str
        The host and port in the target; empty if it names none, as it is usual.
    path, query : str
        The rest of the target.
    headers : dict of str to list of str
        The values by name, in lower case, in their order.
    keep_alive : bool
        Whether the connection stays open after the answer.
    """

    verb: str
    authority: str
    path: str
    query: str
    headers: dict[str, list[str]]
    keep_alive: bool

    def content_length(self) -> int | None:
        """Return the length of the body; None if the head does not say.

        Raises
        ------
        BadRequestError
            The framing is ambiguous or not supported.
        """
        lengths = self.headers.get("content-length", [])
        if "transfer-encoding" in self.headers:
            if lengths:
                raise BadRequestError(
                    HTTPStatus.BAD_REQUEST, "both Content-Length and Transfer-Encoding"
                )
            raise BadRequestError(HTTPStatus.LENGTH_REQUIRED, "needs a Content-Length")
        if not lengths:
            return None
        if len(lengths) > 1:
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "more than one Content-Length")
        if not _LENGTH.fullmatch(lengths[0]):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        return int(lengths[0])


def parse_head(raw: bytes) -> RequestHead:
    """Parse the head of a request, with the empty line that ends it.

    Raises
    ------
    BadRequestError
        The head breaks HTTP/1.1, or it is ambiguous.
    """
    request_line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match = _REQUEST_LINE.fullmatch(request_line)
    if match is None:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "not a request line of HTTP/1.1")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t"):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a folded header line")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a malformed header line")
        headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    options = {
        each.strip().lower() for value in headers.get("connection", []) for each in value.split(",")
    }
    is_new = match[3] == "1"
    keep_alive = "close" not in options if is_new else "keep-alive" in options
    return RequestHead(match[1], *_target(match[2]), headers, keep_alive)


def _target(text: str) -> tuple[str, str, str]:
    """Return the authority, the path and the query of a request's target."""
    if text.startswith("/"):
        path, _, query = text.partition("?")
        return "", path, query
    if text == "*":
        return "", text, ""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "not a target of a request")
    return parts.netloc, parts.path, parts.query
