"""Bundles become signed Solana transactions, and each order comes to one known outcome.

Needs ``pip install -e '.[solana]'`` in the repository. ``import velox`` alone loads none of it.
"""

from importlib.util import find_spec

_MISSING = [name for name in ("solders", "httpcore", "websockets") if find_spec(name) is None]
if _MISSING:
    raise ImportError(
        f"velox.solana needs {', '.join(_MISSING)}: run pip install -e '.[solana]'",
        name=_MISSING[0],
    )
