"""No reader takes an option and then ignores it: every option of every format, tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.verify.fuzz.targets import SEPARATOR, corpus
from velox import Instrument
from velox.errors import ConfigError, FeedError
from velox.feeds import formats, load, options_of

# Values other than the defaults, some of which no reader can use.
VALUES: dict[str, tuple[Any, ...]] = {
    "symbol": ("A", "no such symbol"),
    "snapshot_symbol": ("no such symbol",),
    "channel": ("books5", "orderbook.1", "no such channel"),
    "book_depth": (10, 0),
    "depth_stream": ("partial", "diff"),
    "on_gap": ("continue", "stop"),
    "trades": (True,),
    "price_decimals": (0, 9),
    "tick_size": (3, 1),
    "lot_size": ("0.0001", "7"),
    "time_unit": ("us",),
    "name": ("another name",),
    "instruments": ([Instrument(name="another", market=0, tick_size=2)],),
    "levels": (64,),
    "depth": (1,),
    "limit": (1,),
    "on_error": ("skip",),
}
# It chooses how a recording is read, and not what the result is.
WITHOUT_EFFECT = {"careful"}


def outcome(paths: list[Path], format: str, **options: Any) -> list[Any]:
    """Everything that a load says."""
    try:
        found = load(paths, format, **options)
    except (FeedError, ConfigError) as error:
        return [type(error), str(error)]
    checks = found.checks
    return [
        found.transactions.tobytes(),
        found.known.tobytes(),
        found.venue_ts_ns.tobytes(),
        found.to_dict(),
        found.instruments,
        None if checks is None else [checks.position.tobytes(), checks.market.tobytes()],
        None if checks is None else getattr(checks, "prices", checks.position).shape,
    ]


def damaged(content: bytes, format: str) -> bytes:
    """The content with a line, or a record, that cannot be read."""
    if format == "npy":
        # The side of the last record.
        return content[:-12] + b"\x09" + content[-11:]
    head, _, rest = content.partition(b"\n")
    return head + b'\n17000000001 {"damaged": \n' + rest


@pytest.mark.parametrize("format", formats())
def test_every_option_of_a_format_changes_something_or_is_refused(
    format: str, tmp_path: Path
) -> None:
    samples = []
    for seed in corpus(format):
        paths = []
        for index, content in enumerate(seed.read_bytes()[1:].split(SEPARATOR, 2)):
            path = tmp_path / seed.name / str(index)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            paths.append(path)
        samples.append((paths, outcome(paths, format)))
        paths[0].with_name("damaged").write_bytes(damaged(paths[0].read_bytes(), format))
        paths = [paths[0].with_name("damaged"), *paths[1:]]
        samples.append((paths, outcome(paths, format)))
    for option in {*options_of(format), "depth", "limit", "on_error"} - WITHOUT_EFFECT:
        assert option in VALUES, f"give VALUES some for {option}"
        assert any(
            outcome(paths, format, **{option: value}) != plain
            for value in VALUES[option]
            for paths, plain in samples
        ), f"{format} ignores {option}"


@pytest.mark.parametrize("format", formats())
@pytest.mark.parametrize("option", [*VALUES, *WITHOUT_EFFECT])
def test_a_format_refuses_every_option_that_is_not_its_own(
    format: str, option: str, tmp_path: Path
) -> None:
    if option in {*options_of(format), "depth", "limit", "on_error"}:
        return
    value = VALUES.get(option, (True,))[0]
    with pytest.raises(ConfigError, match=rf"{option}: is not an option of format '{format}'"):
        load(tmp_path / "unread", format, **{option: value})
