"""What type checkers make of `run` and entry points. Never run: mypy and pyright read it."""

from __future__ import annotations

import asyncio
import functools
from asyncio import Event
from collections.abc import Callable
from typing import Protocol, assert_type

from async_plus import entry_point, run, stopping, supervised


async def fetch(url: str, /, size: int = 1) -> list[str]:
    return [url]


async def serve() -> None: ...


class App:
    async def method(self, url: str) -> int:
        return 1

    async def __call__(self, url: str) -> bytes:
        return b""

    @entry_point
    async def main(self, url: str) -> int:
        return 1

    @entry_point(grace=5)
    @classmethod
    async def class_above(cls, url: str) -> int:
        return 1

    @classmethod
    @entry_point
    async def class_below(cls, url: str) -> int:
        return 1

    @entry_point
    @staticmethod
    async def static_above(url: str) -> int:
        return 1

    @staticmethod
    @entry_point(drain=1)
    async def static_below(url: str) -> int:
        return 1


# The result is that of main, and its arguments are checked.

assert_type(run(fetch, "a", 2), list[str])
assert_type(run(serve), None)
assert_type(run(App().method, "a"), int)
assert_type(run(App(), "a"), bytes)
assert_type(run(functools.partial(fetch, "a")), list[str])
assert_type(run(supervised(serve), grace=5, drain=1.5, loop_factory=asyncio.new_event_loop, debug=True), None)


# An entry point keeps its parameters, and returns the result.


class Main(Protocol):
    def __call__(self, url: str, /, size: int = 1, *, limit: float) -> list[str]: ...


@entry_point
async def main(url: str, /, size: int = 1, *, limit: float) -> list[str]:
    return [url]


@entry_point(grace=10, drain=1, loop_factory=asyncio.SelectorEventLoop, debug=None)
async def main_with_options(url: str, /, size: int = 1, *, limit: float) -> list[str]:
    return [url]


mains: list[Main] = [main, main_with_options]
assert_type(main("a", limit=1), list[str])
assert_type(entry_point(serve), Callable[[], None])
assert_type(entry_point(serve)(), None)
assert_type(entry_point()(fetch)("a"), list[str])

assert_type(App().main("a"), int)
assert_type(App.class_above("a"), int)
assert_type(App().class_below("a"), int)
assert_type(App.static_above("a"), int)
assert_type(App().static_below("a"), int)

assert_type(stopping(), Event)
