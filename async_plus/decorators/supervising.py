"""`supervised`: a service that is restarted when it fails."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar, overload

from async_plus.decorators.wrapper import AsyncFunction, Decorator, Keeps, Kept
from async_plus.engine.delayer import DELAYS
from async_plus.supervision.policy import Policy, RestartOn, RestartWhen, Service, declare
from async_plus.supervision.restarts import supervise

__all__ = ["supervised"]

_T = TypeVar("_T")

# The options are those of a policy, here as there by name only. help() shows them.
_OPTIONS = inspect.signature(Policy).parameters


def _show_options(fn: _T) -> _T:
    first = inspect.Parameter("fn", inspect.Parameter.POSITIONAL_ONLY, default=None)
    shown: Any = fn
    shown.__signature__ = inspect.Signature([first, *_OPTIONS.values()])
    return fn


@overload
def supervised(fn: Kept, /) -> Kept: ...
@overload
def supervised(
    *,
    delays: Iterable[float] = DELAYS,
    random_shift: float = 0,
    reset_after: float | None = None,
    on: RestartOn = Exception,
    restart: RestartWhen = "on_error",
    max_restarts: int | None = None,
    heartbeat: float | None = None,
    ready: bool = False,
    name: str | None = None,
) -> Keeps: ...
@_show_options
def supervised(fn: Any = None, /, **options: Any) -> Any:
    """Run a coroutine function as a service that is restarted when it fails.

        @supervised(delays=[0, 10, 60], random_shift=1)
        async def feed(url): ...

    Each attempt runs in a task of its own, named ``feed#1`` and so on, in a copy of the context. Whoever awaits the
    function waits through all of them. To stop it, cancel whoever awaits it: a cancellation reaches the attempt, and
    then nothing is restarted, whatever the service does. If it raises an error while it goes down, that error
    propagates; if it returns a value instead, that is the value.

    Each failure is reported before the delay, with its traceback; a repeated one, of the same type at the same line,
    without it. A service that is cancelled by somebody else failed, with `UnexpectedCancellation`. SystemExit and
    KeyboardInterrupt are never restarted. All state belongs to one call: two calls of one function share nothing.

    Args:
        delays: Seconds before each restart in a row; the last one repeats.
        random_shift: Each delay grows by a random part of these seconds.
        reset_after: An attempt that ran for more than these seconds was stable, and the delays and *max_restarts* start
            over. By default the longest delay, at least 60.
        on: Which errors call for a restart: an exception type, a tuple of them, or a function that takes the exception
            and returns True, False, or the seconds until the restart, in place of the next delay. A group calls for
            one only if every exception in it does, and the longest of their delays counts; a type of group that is
            named stands for the group as a whole. Other errors propagate.
        restart: "on_error"; "always", also after a normal return, with the same delays; or "never".
        max_restarts: After so many restarts in a row without a stable attempt the last error is raised, with a note
            that says so, or the last value is returned.
        heartbeat: The service calls `heartbeat` at least every so many seconds. If it does not, it is reported with
            where it is parked, cancelled, and restarted: it failed, with `Hung`.
        ready: Whether the service calls `ready` when it is up. Whoever starts it by a `Supervisor` waits for that.
        name: The name in reports and of the tasks; by default that of the function.

    Raises:
        TypeError: What is decorated is no coroutine function, or an option is of a wrong kind.
        ValueError: An option is out of its range.

    .. versionadded:: 1.0
    """
    for option in options:
        if option not in _OPTIONS:
            raise TypeError(f"@supervised has no option {option!r}: it has {', '.join(_OPTIONS)}")
    policy = Policy(**options)

    def make(fn: AsyncFunction, name: str) -> AsyncFunction:
        service = policy.name or name

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await supervise(policy, service, fn, args, kwargs)

        # For a supervisor, which restarts it in place of this loop.
        declare(call, Service(policy, service))
        return call

    decorate = Decorator("supervised", make)
    return decorate if fn is None else decorate(fn)
