"""`watched`: a function whose calls launch watched tasks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from async_plus.decorators.wrapper import AsyncFunction, Decorator, PlainFunction
from async_plus.engine.watch import ExceptionHandler, check_handler, check_name, launch_from

__all__ = ["watched"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _Watched(Protocol):
    @overload
    def __call__(
        self, fn: classmethod[_T, _P, Coroutine[Any, Any, _R]], /
    ) -> classmethod[_T, _P, asyncio.Task[_R]]: ...
    @overload
    def __call__(self, fn: staticmethod[_P, Coroutine[Any, Any, _R]], /) -> staticmethod[_P, asyncio.Task[_R]]: ...
    @overload
    def __call__(self, fn: Callable[_P, Coroutine[Any, Any, _R]], /) -> Callable[_P, asyncio.Task[_R]]: ...


@overload
def watched(fn: classmethod[_T, _P, Coroutine[Any, Any, _R]], /) -> classmethod[_T, _P, asyncio.Task[_R]]: ...
@overload
def watched(fn: staticmethod[_P, Coroutine[Any, Any, _R]], /) -> staticmethod[_P, asyncio.Task[_R]]: ...
@overload
def watched(fn: Callable[_P, Coroutine[Any, Any, _R]], /) -> Callable[_P, asyncio.Task[_R]]: ...
@overload
def watched(*, name: str | None = None, on_exception: ExceptionHandler | None = None) -> _Watched: ...
def watched(fn: Any = None, /, *, name: str | None = None, on_exception: ExceptionHandler | None = None) -> Any:
    """Make each call of a coroutine function launch a watched task, as `launch_watched` does, and return the task.

        @watched
        async def save(report): ...

        save(report)        # runs in the background; if it fails, the log says so at once

    The decorated function is no coroutine function any more, so event-loop callbacks and signal handlers take it. Put
    it over every other decorator.

    Args:
        name: The name of the tasks; by default that of the function.
        on_exception: Called as ``on_exception(task, exc)`` in place of the report, as for `launch_watched`.

    Raises:
        TypeError: What is decorated is no coroutine function, *name* is not a string, or *on_exception* is async or
            cannot be called.

    .. versionadded:: 1.0
    """
    if name is not None:
        check_name(name)
    check_handler(on_exception)

    def make(fn: AsyncFunction, function: str) -> Callable[..., asyncio.Task[Any]]:
        task_name = function if name is None else name

        def call(*args: Any, **kwargs: Any) -> asyncio.Task[Any]:
            return launch_from(sys._getframe(1), fn(*args, **kwargs), task_name, on_exception)

        return call

    decorate = Decorator("watched", make, PlainFunction)
    return decorate if fn is None else decorate(fn)
