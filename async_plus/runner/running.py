"""`run`: what it takes, and what it promises."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, TypeVar, TypeVarTuple

from async_plus import _checks
from async_plus._coroutines import close_unstarted, function_name, is_coroutine_function, what_else
from async_plus._signals import SIGUSR1
from async_plus.runner.options import LoopFactory, Options

__all__ = ["run", "run_coroutine", "why_not"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


def run(
    main: Callable[[*_Ts], Coroutine[Any, Any, _T]],
    *args: *_Ts,
    grace: float = 10,
    drain: float = 0,
    dump_signal: int | None = SIGUSR1,
    watch_loop: float | None = None,
    loop_factory: LoopFactory | None = None,
    debug: bool | None = None,
) -> _T:
    """Run ``main(*args)`` in an event loop of its own, as `asyncio.run` does, and stop it in order.

        run(main, grace=10)

    The first SIGTERM or SIGINT sets `stopping`, gives main *drain* seconds to return by itself, and then cancels it,
    once. When main has ended, which includes its scopes and what they hold, the tasks that are left are cancelled and
    waited for; those that a scope, a gather or a supervised service still holds are left to it. Then asynchronous
    generators and the default executor are closed, and the loop. A second signal ends the process at once. Where SIGINT
    is ignored, as in what a script starts in the background, it stays so.

    All this may take *grace* seconds. Then one CRITICAL line names what would not stop and where it is parked, logs
    are flushed, and the process ends with code 70. This works while the loop is blocked, too. A call of
    `asyncio.to_thread` that does not end by then is no reason to fail: it is named in a WARNING and left behind, since
    the threads of the default executor do not hold up the exit. Those of your own pools do.

    Outside of the main thread no signal is handled and nothing ends the process: what would not stop is waited for.

    Args:
        main: A coroutine function.
        args: Its arguments.
        grace: Seconds from the cancellation of main, or from its end if nobody cancelled it, until the process stops
            waiting.
        drain: Seconds from the signal to the cancellation.
        dump_signal: The signal on which `dump_on_signal` tells what all tasks are doing, None for none. If the program
            handles that signal already, it is left alone.
        watch_loop: Seconds for which the loop may be blocked until `watch_loop` reports it, None for no watch.
        loop_factory: Makes the loop: `uvloop.new_event_loop`, say.
        debug: Switches the debug mode of the loop on or off.

    Returns:
        What main returned, unless it was told to stop.

    Raises:
        SystemExit: With code 0 after a SIGTERM. One that is raised inside of any task stops everything in the same
            order, and is raised at the end.
        KeyboardInterrupt: After a SIGINT.
        BaseException: What main failed with, during a stop too.
        TypeError: *main* is no coroutine function, or an option is of a wrong kind.
        ValueError: An option is out of its range.
        RuntimeError: An event loop is already running in this thread.

    .. versionadded:: 1.0
    """
    reason = why_not(main)
    if reason is not None:
        raise TypeError(f"run() needs a coroutine function, but {reason}")
    options = Options(grace, drain, dump_signal, watch_loop, loop_factory, debug)
    return run_coroutine("run()", main, args, {}, options)


def run_coroutine(
    what: str,
    main: Callable[..., Coroutine[Any, Any, _T]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
) -> _T:
    """Do the work of `run`; *what* was called is told in errors."""
    if asyncio._get_running_loop() is not None:
        fix = "await the coroutine function itself instead"
        raise RuntimeError(f"{what} starts an event loop, but one is running in this thread already ({fix})")
    coro = main(*args, **kwargs)
    if not asyncio.iscoroutine(coro):
        raise TypeError(f"{what} needs a function that returns a coroutine, but got {_checks.kind(coro)} from it")
    # Only here: whoever does not run us need not wait for it.
    from async_plus.runner.lifecycle import Lifecycle

    try:
        lifecycle = Lifecycle(coro, options)
    except BaseException:
        # There was no loop to be had.
        close_unstarted(coro)
        raise
    try:
        return lifecycle.run()
    finally:
        # The traceback of what main raises leads to this frame.
        del lifecycle, coro


def why_not(main: Any) -> str | None:
    """Say why *main* cannot be run, None if it can. A coroutine is closed."""
    target = main
    while isinstance(target, (functools.partial, MethodType)):
        target = target.func if isinstance(target, functools.partial) else target.__func__
    if callable(target) and not isinstance(target, type):
        if is_coroutine_function(target) or is_coroutine_function(type(target).__call__):
            return None
        if is_coroutine_function(getattr(target, "__wrapped__", None)):
            fix = "is it under @watched or @entry_point? pass the function without it"
            return f"calls of {function_name(target)} return no coroutine ({fix})"
    close_unstarted(target)
    return what_else(target, "pass")
