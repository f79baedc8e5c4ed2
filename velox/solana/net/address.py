"""Where an endpoint is, which endpoints are allowed, and the credentials sent to them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import unquote, urlsplit

from velox.errors import ConfigError, EndpointRefusedError

__all__ = ["Address", "Secret", "require_loopback"]

_URL: Final = re.compile(r"[!#-\[\]_a-z~]+")  # visible ASCII, without "\^`{|}
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_VISIBLE: Final = re.compile(r"[!-~]+")
# Shorter parts of a path or query are words of an API, not keys.
_LEAST_KEY_LETTERS: Final = 8


class Secret:
    """A credential. No `repr`, format or pickle shows it.

    Parameters
    ----------
    value : str
        Visible ASCII, without spaces.
    what : str
        The name of the credential, for the error message. No message holds the value.

    Raises
    ------
    ConfigError
        `value` is empty or has other characters.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str, what: str = "credential") -> None:
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ConfigError(f"{what}: must be one or more visible ASCII characters")
        self._value = value

    def reveal(self) -> str:
        """Return the credential."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is. `repr` and `str` leave out path and query, which may hold a key.

    Attributes
    ----------
    scheme : str
        ``"http"`` or ``"https"``.
    host : str
        A name or an address, without brackets.
    port : int or None
        The port; None if the URL names none.
    path, query : str
        As in the URL.
    """

    scheme: str
    host: str
    port: int | None
    path: str = field(repr=False)
    query: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an HTTP or HTTPS URL.

        Raises
        ------
        EndpointRefusedError
            `url` is not such a URL, or it holds a user or a password.
        """
        # No message repeats a URL that cannot be parsed: it may hold a credential anywhere.
        if not isinstance(url, str) or not _URL.fullmatch(url):
            raise EndpointRefusedError("endpoint", "not a URL")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if not host:
            raise EndpointRefusedError("endpoint", "not a URL with a host and a valid port")
        if "@" in parts.netloc:
            raise EndpointRefusedError(host, "a URL must not hold a user or a password")
        if parts.scheme not in ("http", "https"):
            raise EndpointRefusedError(host, f"the scheme must be http or https: {parts.scheme!r}")
        if not (_HOST.fullmatch(host) or _is_ip_address(host)):
            raise EndpointRefusedError("endpoint", "not a host name or an IP address")
        return cls(parts.scheme, host, port, parts.path, parts.query)

    @property
    def label(self) -> str:
        """Scheme, host and port: the name of the endpoint in errors."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port is None else f":{self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether everything sent there stays on this machine."""
        if self.host.lower() == "localhost":
            return True
        return _is_ip_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    def target(self, path: str = "", query: str = "") -> str:
        """Return the target of a request to `path` under this address."""
        queries = "&".join(part for part in (self.query, query) if part)
        whole = (self.path.rstrip("/") + path if path else self.path) or "/"
        return f"{whole}?{queries}" if queries else whole

    def secrets(self) -> list[str]:
        """Return the parts of path and query that may be a key."""
        parts = [self.query, *re.split("[&=]", self.query), self.path, *self.path.split("/")]
        parts += [unquote(part) for part in parts]  # a server may repeat them in this form
        return [
            part for part in parts if len(part) >= _LEAST_KEY_LETTERS and _VISIBLE.fullmatch(part)
        ]

    def __str__(self) -> str:
        return self.label


def require_loopback(url: str, allow_mainnet: bool, allow_plaintext: bool = False) -> Address:
    """Parse a URL, and refuse one of another machine unless `allow_mainnet` is set.

    Parameters
    ----------
    url : str
        An HTTP or HTTPS URL.
    allow_mainnet : bool
        Whether another machine is allowed.

    allow_plaintext : bool
        Whether it may be another machine's over http. The key in its URL then travels in clear.

    Returns
    -------
    Address
        The parts of the URL. Connections are made from this, never from the URL again.

    Raises
    ------
    EndpointRefusedError
        `url` is not such a URL, or it is another machine's and `allow_mainnet` is false, or over
        http and `allow_plaintext` is false.
    """
    address = Address.parse(url)
    if not (allow_mainnet or address.is_loopback):
        raise EndpointRefusedError(
            address.label,
            "not on this machine; allow_mainnet = true lets real funds be spent there",
        )
    if address.scheme == "http" and not (allow_plaintext or address.is_loopback):
        raise EndpointRefusedError(
            address.label,
            "not https, so that its key and every order would travel in clear; "
            "allow_plaintext = true allows it",
        )
    return address


def _is_ip_address(host: str) -> bool:
    if "%" in host:  # an IPv6 zone, which has too many spellings
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
