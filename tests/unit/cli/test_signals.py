"""Requests to end a command are counted, each once."""

from __future__ import annotations

import os
import signal

import pytest

from velox.cli.signals import ONE_REQUEST_S, Signals


def test_requests_are_counted() -> None:
    now, before = [0.0], {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Signals(clock=lambda: now[0]) as signals:
            assert not signals.requested
            for count, number in enumerate(before, 1):
                now[0] += ONE_REQUEST_S
                os.kill(os.getpid(), number)
                assert signals.requested
                assert signals.requests == count
    finally:
        # One that was asked to end stays deaf to the end.
        for number, handler in before.items():
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, handler)


def test_a_request_that_a_wrapper_passes_on_once_more_is_one() -> None:
    now = [0.0]
    signals = Signals(clock=lambda: now[0])
    for _ in range(3):
        signals._handle(signal.SIGINT, None)
        now[0] += ONE_REQUEST_S / 4
    assert signals.requests == 1
    # But a later signal counts again.
    for _ in range(2):
        signals._handle(signal.SIGINT, None)
        now[0] += ONE_REQUEST_S / 4
    assert signals.requests == 2


def test_where_nothing_needs_an_order_any_request_ends_it_at_once() -> None:
    signals = Signals(clock=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt), signals.immediate():
        signals._handle(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt), signals.immediate():
        raise AssertionError("it was not ended")
