"""Small recordings for the tests of the command line."""

from __future__ import annotations

from pathlib import Path


def lobster_pair(folder: Path, *, last_bid_size: int = 5) -> Path:
    """Three messages of one level a side, and the book after each."""
    (folder / "T_message_1.csv").write_text(
        "34200.1,1,11,3,999900,1\n34200.2,1,12,2,999900,1\n34200.3,4,9,2,1000100,-1\n"
    )
    (folder / "T_orderbook_1.csv").write_text(
        "1000100,5,999900,3\n1000100,5,999900,5\n1000100,3,999900," + f"{last_bid_size}\n"
    )
    return folder
