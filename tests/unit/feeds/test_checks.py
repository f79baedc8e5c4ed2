from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from velox.errors import RecordError
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.checks import ChecksumChecks, DepthChecks


def depth_columns(count: int = 3, depth: int = 2) -> dict[str, Any]:
    return {
        "position": np.arange(count, dtype=np.int64),
        "market": np.zeros(count, np.uint8),
        "prices": np.ones((count, 2, depth), np.int64),
        "quantities": np.ones((count, 2, depth), np.int64),
    }


def checksum_columns(count: int = 3) -> dict[str, Any]:
    return {
        "position": np.arange(count, dtype=np.int64),
        "market": np.zeros(count, np.uint8),
        "checksum": np.zeros(count, np.int32),
        "algorithm": OkxChecksum(),
    }


def test_checks_have_as_many_elements_as_positions() -> None:
    assert len(DepthChecks(**depth_columns())) == 3
    assert DepthChecks(**depth_columns()).depth == 2
    assert len(ChecksumChecks(**checksum_columns())) == 3
    assert len(DepthChecks(**depth_columns(0))) == 0


def test_two_checks_may_be_due_at_one_position() -> None:
    columns = checksum_columns()
    columns["position"][:] = 7
    assert len(ChecksumChecks(**columns)) == 3


@pytest.mark.parametrize(
    ("field", "array"),
    [
        ("position", [0, 1, 2]),
        ("position", np.arange(3, dtype=np.int32)),
        ("position", np.zeros((3, 1), np.int64)),
        ("position", np.array([0, 2, 1])),
        ("position", np.array([-1, 0, 1])),
        ("market", np.zeros(2, np.uint8)),
        ("market", np.zeros(3, np.int64)),
        ("prices", np.ones((3, 1, 2), np.int64)),
        ("prices", np.ones((3, 2, 2))),
        ("prices", np.ones((3, 2, 4), np.int64)[:, :, ::2]),
        ("quantities", np.ones((3, 2, 3), np.int64)),
        ("quantities", np.full((3, 2, 2), -1)),
        ("quantities", np.ones((3, 2, 2), ">i8")),
    ],
)
def test_depth_checks_refuse_an_array_that_c_could_not_read(field: str, array: Any) -> None:
    with pytest.raises(RecordError) as caught:
        DepthChecks(**(depth_columns() | {field: array}))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("checksum", np.zeros(3, np.uint32)),
        ("checksum", np.zeros(4, np.int32)),
        ("position", np.array([2, 1, 0])),
        ("algorithm", "kraken"),
    ],
)
def test_checksum_checks_refuse_what_they_cannot_mean(field: str, value: Any) -> None:
    with pytest.raises(RecordError) as caught:
        ChecksumChecks(**(checksum_columns() | {field: value}))
    assert caught.value.field == field


def test_the_first_wrong_position_is_named() -> None:
    columns = checksum_columns()
    columns["position"][:] = [4, 5, 3]
    with pytest.raises(RecordError, match=r"position\[2\] = 3") as caught:
        ChecksumChecks(**columns)
    assert caught.value.index == 2
