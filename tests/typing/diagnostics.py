"""What type checkers make of dumps, watches, probes and metrics. Never run: mypy and pyright read it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import assert_type

from prometheus_client import REGISTRY, Metric

from async_plus import (
    BlockOver,
    Event,
    Health,
    LoopBlocked,
    LoopWatch,
    Place,
    SignalDump,
    dump_on_signal,
    entry_point,
    health,
    run,
    watch_loop,
)
from async_plus.prometheus import SupervisionCollector


async def main() -> None:
    loop = asyncio.get_running_loop()

    assert_type(dump_on_signal(), SignalDump)
    assert_type(dump_on_signal(signal.SIGUSR2, loop=loop), SignalDump)
    with dump_on_signal(12) as dump:
        assert_type(dump, SignalDump)
    assert_type(dump.close(), None)

    assert_type(watch_loop(), LoopWatch)
    with watch_loop(threshold=1) as watch:
        assert_type(watch.lag, float)
        assert_type(watch.threshold, float)
    assert_type(watch.stop(), None)

    assert_type(health(), Health)
    assert_type(health(loop).live, bool)
    assert_type(health(loop=loop).ready, bool)
    assert_type(health().problems, tuple[str, ...])

    collector = SupervisionCollector()
    REGISTRY.register(collector)
    assert_type(SupervisionCollector(loop).collect(), Iterator[Metric])


def subscriber(event: Event) -> None:
    match event:
        case LoopBlocked():
            assert_type(event.blocked_for, float)
            assert_type(event.task, str | None)
            assert_type(event.blocked_at, Place | None)
            assert_type(event.stack, tuple[Place, ...])
        case BlockOver():
            assert_type(event.seen, bool)
        case _:
            pass


run(main, dump_signal=signal.SIGUSR2, watch_loop=0.5)
run(main, dump_signal=None, watch_loop=None)
entry_point(dump_signal=12, watch_loop=1)(main)()
