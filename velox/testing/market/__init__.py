"""An order-book program for the local chain, with Manifest's wire format.

The program is C (``program/``), compiled by clang for BPF and linked by
`velox.testing.market.link`. The built ELF files are part of the package; nothing else is needed to
run them. ``docs/explanation/market-program.md`` describes the program.

A second file is the same program with faults, for tests of code that uses the market:
`faulty_program` chooses one of `MarketFault`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM

__all__ = [
    "FAULTY_PROGRAM",
    "FAULT_CODE",
    "MARKET_ADDRESS",
    "MARKET_PROGRAM",
    "MarketFault",
    "faulty_program",
    "market_program",
]

MARKET_ADDRESS: Final = MANIFEST_PROGRAM
"""Where clients expect the program: Manifest's own address."""

MARKET_PROGRAM: Final = Path(__file__).with_name("market.elf")
"""The built program, an ELF file."""

FAULTY_PROGRAM: Final = Path(__file__).with_name("faulty.elf")
"""The same program with code for faults. Unless patched, it has none."""

FAULT_CODE: Final = 9_999
"""The custom error of `MarketFault.FAILS_MIDWAY`."""

# Of the record in read-only data that says which fault it is: two marks, kind u64, at u64.
_MARK = b"\0velox\0\0\0fault\0\0"
_FAULT = struct.Struct("<QQ")


class MarketFault(IntEnum):
    """The fault of a faulty program. The numbers are those of ``program/fault.h``."""

    OUT_OF_COMPUTE = 1
    """The place number `at` of a batch, counted from 0, uses up all compute units."""
    FAILS_MIDWAY = 2
    """The place number `at` of a batch fails as ``Custom(FAULT_CODE)``."""
    GARBAGE_EVENTS = 3
    """Each event comes after others that are cut off, too long, unknown or empty."""
    FLOODED_LOG = 4
    """Each event comes after 10 000 bytes of other log lines."""
    GARBAGE_ANSWER = 5
    """A batch answers with `at` bytes that are not a valid answer; the chain allows 1 024."""
    NO_ANSWER = 6
    """A batch does not answer."""
    SHORT_ANSWER = 7
    """The answer of a batch counts one order more than it holds."""
    CHANGED_LAYOUT = 8
    """The market's header is of version 1: its sequence and its roots lie elsewhere."""


def market_program() -> bytes:
    """Return the built program.

    Raises
    ------
    OSError
        The file is not there: the package is damaged.
    """
    return MARKET_PROGRAM.read_bytes()


def faulty_program(fault: MarketFault, at: int = 0) -> bytes:
    """Return the program with one fault.

    Parameters
    ----------
    fault : MarketFault
    at : int, default 0
        The position in a batch, or the number of bytes, depending on the fault; 0 to 2**64 - 1.

    Raises
    ------
    ValueError
        `at` is out of range.
    OSError
        The file is not there: the package is damaged.
    """
    if not 0 <= at < 2**64:
        raise ValueError(f"at: {at} is not from 0 to 2**64 - 1")
    program = bytearray(FAULTY_PROGRAM.read_bytes())
    begin = program.index(_MARK) + len(_MARK)
    _FAULT.pack_into(program, begin, fault, at)
    return bytes(program)
