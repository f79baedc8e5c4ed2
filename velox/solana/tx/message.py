"""Parse the bytes of a version 0 message, and say where each part lies.

::

    80 | signers u8, read-only signers u8, read-only others u8
       | count, keys[count] x 32 | blockhash 32
       | count, instructions: program u8 | count, accounts u8 each | length, data
       | count of address lookup tables: 0

Counts and lengths are "compact u16": up to three bytes, each with seven bits, lowest first. A
message with address lookup tables is refused, because they hide which accounts it names.
"""

from __future__ import annotations

from typing import NamedTuple

from velox.errors import RecordError

__all__ = [
    "BLOCKHASH_BYTES",
    "SIGNATURE_BYTES",
    "Message",
    "compact",
    "parse_message",
]

VERSION_0 = 0x80
KEY_BYTES = 32
BLOCKHASH_BYTES = 32
SIGNATURE_BYTES = 64
_HEADER_BYTES = 4


class Message(NamedTuple):
    """The parts of a version 0 message.

    Attributes
    ----------
    signatures : int
        How many of the keys must sign, counted from the first. The first key pays the fees.
    keys : list of bytes
        The account keys, 32 bytes each.
    blockhash_at : int
        The offset of the blockhash.
    instructions : list of (program, start, end)
        For each instruction its program's key, and where its data is: ``message[start:end]``.
    """

    signatures: int
    keys: list[bytes]
    blockhash_at: int
    instructions: list[tuple[bytes, int, int]]


def compact(number: int) -> bytes:
    """Return `number`, 0 to 65535, as a compact u16."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))


def _count(message: bytes, at: int) -> tuple[int, int]:
    """Return the compact u16 at `at`, and the offset after it."""
    number = message[at]
    if number < 0x80:
        return number, at + 1
    number = number & 0x7F | message[at + 1] << 7
    if number < 0x4000:
        return number, at + 2
    return number & 0x3FFF | message[at + 2] << 14, at + 3


def parse_message(message: bytes) -> Message:
    """Parse a message to its last byte.

    Parameters
    ----------
    message : bytes
        A transaction without its signatures.

    Raises
    ------
    RecordError
        It is not one whole message of version 0, or it uses an address lookup table. `field` names
        the part that is wrong.
    """
    try:
        return _parse(message)
    except IndexError:
        pass
    raise RecordError(f"message: ends early, after {len(message)} bytes", field="message")


def _parse(message: bytes) -> Message:
    # This runs before every signature. Nearly all counts have one byte: those are read in place.
    if message[0] != VERSION_0:
        raise RecordError(f"message: first byte {message[0]:#04x}, not version 0", field="version")
    count, at = _count(message, _HEADER_BYTES)
    blockhash_at = at + count * KEY_BYTES
    keys = [message[key : key + KEY_BYTES] for key in range(at, blockhash_at, KEY_BYTES)]
    count, at = _count(message, blockhash_at + BLOCKHASH_BYTES)
    instructions = []
    for _ in range(count):
        program = keys[message[at]]
        accounts = message[at + 1]
        at += 2
        if accounts >= 0x80:
            accounts, at = _count(message, at - 1)
        at += accounts
        length = message[at]
        at += 1
        if length >= 0x80:
            length, at = _count(message, at - 1)
        instructions.append((program, at, at + length))
        at += length
    if message[at]:
        raise RecordError(
            f"message: {message[at]} address lookup tables; none are allowed",
            field="address_table_lookups",
        )
    if at + 1 != len(message):
        raise RecordError(f"message: {len(message)} bytes; it ends after {at + 1}", field="message")
    return Message(message[1], keys, blockhash_at, instructions)
