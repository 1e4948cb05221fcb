"""`entry_point`: a program, as a plain function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from async_plus._signals import SIGUSR1
from async_plus.decorators.wrapper import AsyncFunction, Decorator, PlainFunction
from async_plus.runner import run_coroutine
from async_plus.runner.options import LoopFactory, Options

__all__ = ["entry_point"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


class _EntryPoint(Protocol):
    @overload
    def __call__(self, fn: classmethod[_T, _P, Coroutine[Any, Any, _R]], /) -> classmethod[_T, _P, _R]: ...
    @overload
    def __call__(self, fn: staticmethod[_P, Coroutine[Any, Any, _R]], /) -> staticmethod[_P, _R]: ...
    @overload
    def __call__(self, fn: Callable[_P, Coroutine[Any, Any, _R]], /) -> Callable[_P, _R]: ...


@overload
def entry_point(fn: classmethod[_T, _P, Coroutine[Any, Any, _R]], /) -> classmethod[_T, _P, _R]: ...
@overload
def entry_point(fn: staticmethod[_P, Coroutine[Any, Any, _R]], /) -> staticmethod[_P, _R]: ...
@overload
def entry_point(fn: Callable[_P, Coroutine[Any, Any, _R]], /) -> Callable[_P, _R]: ...
@overload
def entry_point(
    *,
    grace: float = 10,
    drain: float = 0,
    dump_signal: int | None = SIGUSR1,
    watch_loop: float | None = None,
    loop_factory: LoopFactory | None = None,
    debug: bool | None = None,
) -> _EntryPoint: ...
def entry_point(
    fn: Any = None,
    /,
    *,
    grace: float = 10,
    drain: float = 0,
    dump_signal: int | None = SIGUSR1,
    watch_loop: float | None = None,
    loop_factory: LoopFactory | None = None,
    debug: bool | None = None,
) -> Any:
    """Make a plain function of a coroutine function: each call runs it in an event loop of its own, as `run` does.

        @entry_point(grace=10)
        async def main(): ...

        if __name__ == "__main__":
            main()

    It fits ``[project.scripts]`` as well, where ``app:main`` names it. A program that is started like this ends with
    the code that main returns, if it is a number, and with 0 if it returns nothing. Put it over every other decorator.

    Args:
        grace: Seconds that a stop may take before the process ends with code 70.
        drain: Seconds from the first signal until main is cancelled.
        dump_signal: The signal on which `dump_on_signal` tells what all tasks are doing, None for none.
        watch_loop: Seconds for which the loop may be blocked until `watch_loop` reports it, None for no watch.
        loop_factory: Makes the loop: `uvloop.new_event_loop`, say.
        debug: Switches the debug mode of the loop on or off.

    Raises:
        TypeError: What is decorated is no coroutine function, or an option is of a wrong kind.
        ValueError: An option is out of its range.

    The decorated function raises what `run` does.

    .. versionadded:: 1.0
    """
    options = Options(grace, drain, dump_signal, watch_loop, loop_factory, debug)

    def make(fn: AsyncFunction, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return run_coroutine(f"{name}(), an entry point,", fn, args, kwargs, options)

        return call

    decorate = Decorator("entry_point", make, PlainFunction)
    return decorate if fn is None else decorate(fn)
