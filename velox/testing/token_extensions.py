"""Extensions of Token-2022 mints and token accounts, in the parsed form of a node.

::

    account  0 base state 165 | 165 kind of account u8 | 166 extensions
    each     0 type u16 | 2 length u16 | 4 state
    fee      0 first epoch u64 | 8 at most, atoms u64 | 16 hundredths of a percent u16
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from solders.pubkey import Pubkey

__all__ = ["TOKEN_STATES", "parse_extensions"]

#: The states of a token account, by their number.
TOKEN_STATES: Final = ("uninitialized", "initialized", "frozen")
_FIRST = 166
_HEAD = struct.Struct("<HH")
_FEE = struct.Struct("<QQH")
_UNKNOWN = {"extension": "unparseableExtension"}


def parse_extensions(data: bytes) -> list[dict[str, Any]]:
    """Return the extensions of an account; one that is not known here has only that name.

    Parameters
    ----------
    data : bytes
        The account's data. It may end before the place of the extensions; then there are none.

    Raises
    ------
    ValueError
        An extension is cut off.
    """
    found, at = list[dict[str, Any]](), _FIRST
    while at + 2 <= len(data) and data[at : at + 2] != bytes(2):
        if at + _HEAD.size > len(data):
            raise ValueError("an extension is cut off")
        kind, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        state = data[at : at + length]
        if len(state) < length:
            raise ValueError("an extension is cut off")
        at += length
        found.append(_parsed(kind, state))
    return found


def _parsed(kind: int, state: bytes) -> dict[str, Any]:
    if kind not in _EXTENSIONS:
        return _UNKNOWN
    name, size, parse = _EXTENSIONS[kind]
    if len(state) != size:
        return _UNKNOWN
    return {"extension": name} if parse is None else {"extension": name, "state": parse(state)}


def _key(state: bytes, at: int = 0) -> str | None:
    """Return an optional key, which is zeros if there is none."""
    raw = state[at : at + 32]
    return str(Pubkey.from_bytes(raw)) if any(raw) else None


def _u64(state: bytes, at: int = 0) -> int:
    return int.from_bytes(state[at : at + 8], "little")


def _fee(state: bytes, at: int) -> dict[str, int]:
    epoch, most, parts = _FEE.unpack_from(state, at)
    return {"epoch": epoch, "maximumFee": most, "transferFeeBasisPoints": parts}


def _fee_config(state: bytes) -> dict[str, Any]:
    return {
        "transferFeeConfigAuthority": _key(state),
        "withdrawWithheldAuthority": _key(state, 32),
        "withheldAmount": _u64(state, 64),
        "olderTransferFee": _fee(state, 72),
        "newerTransferFee": _fee(state, 90),
    }


def _default_state(state: bytes) -> dict[str, str]:
    return {"accountState": TOKEN_STATES[min(state[0], len(TOKEN_STATES) - 1)]}


#: By type: the name, the size of the state in bytes, and what makes JSON of it, if there is any.
_EXTENSIONS: Final[Mapping[int, tuple[str, int, Callable[[bytes], dict[str, Any]] | None]]] = {
    1: ("transferFeeConfig", 108, _fee_config),
    2: ("transferFeeAmount", 8, lambda state: {"withheldAmount": _u64(state)}),
    3: ("mintCloseAuthority", 32, lambda state: {"closeAuthority": _key(state)}),
    6: ("defaultAccountState", 1, _default_state),
    7: ("immutableOwner", 0, None),
    8: ("memoTransfer", 1, lambda state: {"requireIncomingTransferMemos": bool(state[0])}),
    9: ("nonTransferable", 0, None),
    11: ("cpiGuard", 1, lambda state: {"lockCpi": bool(state[0])}),
    12: ("permanentDelegate", 32, lambda state: {"delegate": _key(state)}),
    13: ("nonTransferableAccount", 0, None),
    14: (
        "transferHook",
        64,
        lambda state: {"authority": _key(state), "programId": _key(state, 32)},
    ),
    15: ("transferHookAccount", 1, lambda state: {"transferring": bool(state[0])}),
    18: (
        "metadataPointer",
        64,
        lambda state: {"authority": _key(state), "metadataAddress": _key(state, 32)},
    ),
}
