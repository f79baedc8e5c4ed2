"""The limits of C's integers, under the names of ``<stdint.h>``."""

from __future__ import annotations

from typing import Final

__all__ = ["INT32_MAX", "INT64_MAX", "UINT32_MAX", "UINT64_MAX"]

INT32_MAX: Final = 2**31 - 1
UINT32_MAX: Final = 2**32 - 1
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1
