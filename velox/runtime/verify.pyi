from typing import NamedTuple, Self, final

from velox.core.order_book import Books
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["Verification", "Verifier"]

class Verification(NamedTuple):
    checked: int
    mismatched: int
    first_mismatch: str | None

@final
class Verifier:
    def __new__(
        cls, checks: DepthChecks | ChecksumChecks, books: Books, *, pass_length: int
    ) -> Self: ...
    @property
    def checks(self) -> DepthChecks | ChecksumChecks: ...
    def result(self) -> Verification: ...
