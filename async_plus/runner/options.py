"""The options of `run`, checked."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TypeAlias, cast

from async_plus import _checks
from async_plus._signals import check_signal, signal_name

__all__ = ["STOPPING", "LoopFactory", "Options"]

# What `run` takes for a request to stop.
STOPPING = (signal.SIGTERM, signal.SIGINT)

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


class Options:
    """The options of one `run`. Times are in seconds.

    Raises:
        TypeError: One is of a wrong kind.
        ValueError: One is out of its range.
    """

    __slots__ = ("debug", "drain", "dump_signal", "grace", "loop_factory", "watch_loop")

    def __init__(
        self,
        grace: object,
        drain: object,
        dump_signal: object,
        watch_loop: object,
        loop_factory: object,
        debug: bool | None,
    ) -> None:
        self.grace = _checks.seconds("grace", grace)
        self.drain = _checks.seconds("drain", drain)
        self.dump_signal = None if dump_signal is None else _dump_signal(dump_signal)
        self.watch_loop = None if watch_loop is None else _checks.seconds("watch_loop", watch_loop, above_zero=True)
        if loop_factory is not None and not callable(loop_factory):
            what = "a callable that makes an event loop"
            raise TypeError(f"loop_factory must be {what}, got {_checks.kind(loop_factory)}")
        self.loop_factory = cast("LoopFactory | None", loop_factory)
        self.debug = debug


def _dump_signal(value: object) -> int:
    signum = check_signal("dump_signal", value)
    if signum in STOPPING:
        rule = "dump_signal must be another signal than those that stop the program"
        raise ValueError(f"{rule}, got {signal_name(signum)}")
    return signum
