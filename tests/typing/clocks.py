"""What type checkers make of the help for users' own tests. Never run: mypy and pyright read it."""

from __future__ import annotations

import asyncio
import logging
from typing import assert_type

from async_plus import Event
from async_plus.testing import Leaks, VirtualClock, VirtualClockLoop, record_events


async def test_an_hour(virtual_clock: VirtualClock, no_leaks: Leaks) -> None:
    assert_type(virtual_clock.elapsed, float)
    assert_type(virtual_clock.time(), float)
    assert_type(no_leaks.errors, list[logging.LogRecord])
    assert_type(no_leaks.never_awaited, list[str])
    with record_events() as events:
        assert_type(events, list[Event])


def loop_factory() -> asyncio.AbstractEventLoop:
    loop = VirtualClockLoop()
    assert_type(loop.clock, VirtualClock)
    assert_type(loop.time(), float)
    return loop
