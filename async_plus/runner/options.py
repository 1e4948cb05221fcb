"""The options of `run`, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias, cast

from async_plus import _checks

__all__ = ["LoopFactory", "Options"]

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


class Options:
    """The options of one `run`. Times are in seconds.

    Raises:
        TypeError: One is of a wrong kind.
        ValueError: One is out of its range.
    """

    __slots__ = ("debug", "drain", "grace", "loop_factory")

    def __init__(self, grace: object, drain: object, loop_factory: object, debug: bool | None) -> None:
        self.grace = _checks.seconds("grace", grace)
        self.drain = _checks.seconds("drain", drain)
        if loop_factory is not None and not callable(loop_factory):
            what = "a callable that makes an event loop"
            raise TypeError(f"loop_factory must be {what}, got {_checks.kind(loop_factory)}")
        self.loop_factory = cast("LoopFactory | None", loop_factory)
        self.debug = debug
