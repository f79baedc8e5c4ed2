"""What the tests of the market program share."""

from __future__ import annotations

from functools import cache

import pytest

from velox.errors import ProgramBuildError
from velox.testing.market.build import compiler


@cache
def clang() -> str | None:
    try:
        return compiler()[0]
    except ProgramBuildError:
        return None


needs_clang = pytest.mark.skipif(
    clang() is None, reason="needs clang for BPF (Debian: apt-get install clang-14)"
)
