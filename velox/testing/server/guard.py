"""Which requests a server on the loopback interface serves.

A page in a browser can send requests to this machine. Two headers tell them apart: ``Origin`` names
the page's site, and ``Host`` names the host that the page believes to talk to. A site whose name
resolves to 127.0.0.1 (DNS rebinding) shows itself by its ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["allows_host", "allows_origin"]

_LOCAL: Final = r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_HOST: Final = re.compile(_LOCAL, re.IGNORECASE)
_ORIGIN: Final = re.compile(rf"https?://{_LOCAL}", re.IGNORECASE)


def allows_host(hosts: Sequence[str]) -> bool:
    """Return whether a request with these ``Host`` headers is meant for this machine."""
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


def allows_origin(origins: Sequence[str]) -> bool:
    """Return whether a request with these ``Origin`` headers comes from no page, or a local one."""
    return not origins or (len(origins) == 1 and _ORIGIN.fullmatch(origins[0]) is not None)
