"""Every error: its fields make its message, and survive a pickle and a copy."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from velox import Rejection, errors
from velox.errors import VeloxError

# One of each, with the message that its fields make.
EXAMPLES: list[tuple[VeloxError, str]] = [
    (errors.VeloxError("out of order"), "out of order"),
    (errors.RecordError("not decimal", field="price", value="x"), "price = 'x': not decimal"),
    (errors.RecordError("is wrong", field="counts", index=3, value=-1), "counts[3] = -1: is wrong"),
    (
        errors.RecordError("is wrong", array="orders", index=3, field="side", value=2),
        "orders[3].side = 2: is wrong",
    ),
    (errors.RingError("push to a closed ring"), "push to a closed ring"),
    (errors.BookError("must be 1 to 9", field="n", value=None), "n = None: must be 1 to 9"),
    (errors.RejectedError("ADD BID: PRICE", Rejection.PRICE), "ADD BID: PRICE"),
    (errors.ConfigError("must not be empty", field="books"), "books: must not be empty"),
    (
        errors.LimitsError("a.toml", [(3, "each.collar", "unknown"), (None, "", "is not TOML")]),
        "a.toml:3: each.collar: unknown; a.toml: is not TOML",
    ),
    (errors.FeedError("cut off", path="a.npy"), "a.npy: cut off"),
    (errors.FeedError("cut off", path="a.csv", line=3, field="price"), "a.csv:3: price: cut off"),
    (
        errors.CaptureError("cannot be written", path="a.npy", number=28, bundles=5),
        "a.npy: cannot be written; it holds the first 5 bundles",
    ),
    (errors.PipelineError("a pipeline runs once"), "a pipeline runs once"),
    (errors.ThreadError("none is left"), "none is left"),
    (
        errors.StrategyError("its own error code", returned=-1, position=30),
        "the strategy returned -1 after record 30: its own error code",
    ),
    (
        errors.LedgerError("must be a count", field="applied", value=-1),
        "applied = -1: must be a count",
    ),
    (
        errors.MarketError("is the base mint", market=1, field="quote"),
        "market 1: quote: is the base mint",
    ),
    (errors.UnrepresentableError(1, "price", 7, "no such tick"), "market 1: price 7: no such tick"),
    (
        errors.TransactionTooLargeError(1300, 1232),
        "a transaction of 1300 bytes, where 1232 are allowed",
    ),
    (errors.KeyFileError("cannot be read", path="id.json"), "id.json: cannot be read"),
    (
        errors.SpendRefusedError("killed", "signs no more", value=1, limit=0),
        "refused by killed: signs no more",
    ),
    (errors.EndpointRefusedError("http://a", "not https"), "http://a: not https"),
    (
        errors.RpcError("http://a", "getSlot", -32000, "busy"),
        "http://a: getSlot: error -32000: busy",
    ),
    (
        errors.BundleRejectedError("http://a", "sendBundle", None, "no tip", reason="tip"),
        "http://a: sendBundle: error: no tip",
    ),
    (errors.UnknownMarketError("no book of market 7"), "no book of market 7"),
    (errors.TransportError("http://a", "getSlot", "timed out"), "http://a: getSlot: timed out"),
    (errors.RateLimitedError("http://a", 0.5), "http://a: too many requests; again in 0.500 s"),
    (errors.JournalError("cut off", path="j", offset=8), "j: byte 8: cut off"),
    (errors.SubmitError("closed"), "closed"),
    (errors.LocalnetError("must be 1", field="seed", value=0), "seed = 0: must be 1"),
    (
        errors.ProgramBuildError("undefined", path="a.o", section=".text", offset=16, symbol="f"),
        "a.o: .text+0x10: f: undefined",
    ),
]


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=lambda each: type(each).__name__)
def test_the_fields_make_the_message(error: VeloxError, message: str) -> None:
    assert str(error) == message
    assert error.args == (message,)


@pytest.mark.parametrize("duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error", [each for each, _ in EXAMPLES], ids=lambda each: type(each).__name__
)
def test_a_copy_has_the_same_fields_and_notes(error: VeloxError, duplicate: Any) -> None:
    error.add_note("while testing")
    made = duplicate(error)
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert made.__dict__ == error.__dict__


def test_a_group_is_copied_with_what_is_inside() -> None:
    group = errors.StageGroupError("several stages failed", [errors.PipelineError("one")])
    made = pickle.loads(pickle.dumps(group))
    assert isinstance(made, errors.PipelineError)
    assert [str(each) for each in made.exceptions] == ["one"]
    assert made.why == group.why == "several stages failed"


def test_a_capture_error_has_the_number_of_the_system() -> None:
    assert errors.CaptureError("no space", path="a", number=28).errno == 28


def test_every_public_error_has_an_example_and_documents_its_fields() -> None:
    shown = {type(each) for each, _ in EXAMPLES}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind in (errors.SolanaError, errors.StageGroupError):
            continue
        assert kind in shown, name
        if "Attributes" in (kind.__doc__ or "") and dataclasses.is_dataclass(kind):
            documented = inspect.getdoc(kind) or ""
            for each in inspect.get_annotations(kind):
                assert each == "_" or each in documented, (name, each)
