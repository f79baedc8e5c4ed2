"""The bytes of a version 0 message: where each part lies.

::

    80 | signers u8, read-only signers u8, read-only others u8
       | count, keys[count] x 32 | blockhash 32
       | count, instructions: program u8 | count, accounts u8 each | length, data
       | count of address lookup tables: 0

Counts and lengths are little-endian groups of seven bits, at most three of them. Address lookup
tables are refused: they hide which accounts a transaction names.
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
    """A version 0 message, taken apart.

    Attributes
    ----------
    signatures : int
        How many keys, from the first, must sign; the first pays the fees.
    keys : list of bytes
        32 each, in the message's order.
    blockhash_at : int
        Where its blockhash begins.
    instructions : list of (program, start, end)
        The key of each one's program, and ``message[start:end]``, its data.
    """

    signatures: int
    keys: list[bytes]
    blockhash_at: int
    instructions: list[tuple[bytes, int, int]]


def compact(number: int) -> bytes:
    """Return `number`, 0 to 65535, as the chain's formats write a count."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))


def _count(message: bytes, at: int) -> tuple[int, int]:
    """The count that begins at `at`, and where it ends."""
    number = message[at]
    if number < 0x80:
        return number, at + 1
    number = number & 0x7F | message[at + 1] << 7
    if number < 0x4000:
        return number, at + 2
    return number & 0x3FFF | message[at + 2] << 14, at + 3


def parse_message(message: bytes) -> Message:
    """Take a message apart, to its last byte.

    Parameters
    ----------
    message : bytes
        What is signed: a transaction without its signatures.

    Raises
    ------
    RecordError
        It is no whole message of version 0, or it uses an address lookup table.
    """
    try:
        return _parse(message)
    except IndexError:
        pass
    raise RecordError(f"a message that ends early, after {len(message)} bytes", field="message")


def _parse(message: bytes) -> Message:
    # Every signature is preceded by this: counts of one byte, which nearly all are, are read here.
    if message[0] != VERSION_0:
        raise RecordError(f"a message that begins with {message[0]:#04x}: not version 0")
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
        raise RecordError(f"a message with {message[at]} address lookup tables")
    if at + 1 != len(message):
        raise RecordError(f"a message of {at + 1} bytes in {len(message)}")
    return Message(message[1], keys, blockhash_at, instructions)
