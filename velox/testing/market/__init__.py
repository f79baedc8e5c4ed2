"""An order-book program for the local chain, which speaks Manifest's wire.

The program is C (``program/``), compiled by clang for BPF and linked by
`velox.testing.market.link`. The built ELF file is part of the package; nothing else is needed to
run it. ``docs/explanation/market-program.md`` describes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from solders.pubkey import Pubkey

__all__ = ["MARKET_ADDRESS", "MARKET_PROGRAM", "market_program"]

MARKET_ADDRESS: Final = Pubkey.from_string("MNFSTqtC93rEfYHB6hF82sKdZpUDFWkViLByLd1k1Ms")
"""Where clients expect the program: Manifest's own address."""

MARKET_PROGRAM: Final = Path(__file__).with_name("market.elf")
"""The built program, an ELF file."""


def market_program() -> bytes:
    """Return the built program.

    Raises
    ------
    OSError
        The file is not there: the package is damaged.
    """
    return MARKET_PROGRAM.read_bytes()
