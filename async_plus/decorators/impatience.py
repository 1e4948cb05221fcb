"""`impatient`: waits that tell when they take long, in three uses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Coroutine
from types import CodeType, MethodType
from typing import Any, TypeVar, cast, overload

from async_plus import _checks
from async_plus._coroutines import close_unstarted
from async_plus.decorators.wrapper import AsyncFunction, Decorator, Kept
from async_plus.engine.patience import (
    COROUTINE,
    USUAL,
    Block,
    LogCompletion,
    check_awaitable,
    check_patience,
    close_at_end,
    impatiently,
)

__all__ = ["impatient"]

_T = TypeVar("_T")

_NOTHING: Any = object()
# The usual stacklevel. Compared by identity, which tells it from False and 0.0.
_AWAITER = 0


class _ImpatientBlock(Block):
    """What `impatient` returns without an awaitable: a block, or a decorator."""

    __slots__ = ()

    def __call__(self, fn: Kept, /) -> Kept:
        patience, title = self._patience, self._name

        def make(fn: AsyncFunction, name: str) -> AsyncFunction:
            called, source = title or name, _code_of(fn)

            async def call(*args: Any, **kwargs: Any) -> Any:
                return await impatiently(fn(*args, **kwargs), patience, called, source)

            return call

        return cast(Kept, Decorator("impatient", make)(fn))


def _code_of(fn: Any) -> CodeType | None:
    """Find the code of the function that the user wrote, below decorators, partials and bound methods."""
    inner = inspect.unwrap(fn)
    if isinstance(inner, (functools.partial, MethodType)):
        return _code_of(inner.func if isinstance(inner, functools.partial) else inner.__func__)
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    # That of a mock is a mock.
    return code if type(code) is CodeType else None


@overload
def impatient(
    aw: Awaitable[_T],
    *,
    log_after: float | None = None,
    log_completion: LogCompletion = "after_long_wait",
    log_level: int | None = None,
    stacklevel: int = 0,
    name: str | None = None,
) -> Coroutine[Any, Any, _T]: ...
@overload
def impatient(
    *,
    log_after: float | None = None,
    log_completion: LogCompletion = "after_long_wait",
    log_level: int | None = None,
    stacklevel: int = 0,
    name: str | None = None,
) -> _ImpatientBlock: ...
def impatient(
    aw: Any = _NOTHING,
    *,
    log_after: Any = None,
    log_completion: LogCompletion = "after_long_wait",
    log_level: int | None = None,
    stacklevel: int = _AWAITER,
    name: Any = None,
) -> Any:
    """Say in the log what is waited for, where, and where that hangs, when a wait takes long.

        await impatient(queue.get(), log_after=5)

        @impatient(log_after=5)
        async def fetch(url): ...

        async with impatient(log_after=60, name="warm-up"): ...

    The awaitable is awaited inline: in the same task and context, with cancellation untouched. After *log_after*
    seconds a WARNING tells of the wait, and again at gaps of 2, 4, 8 ... times that; when such a wait ends, another
    one tells how. Only names are logged, never arguments, results or the text of exceptions.

    A block serves one ``async with`` at a time; as a decorator it may be used again and again.

    Args:
        aw: What to wait for. Without it, the result is a decorator and an asynchronous context manager.
        log_after: Seconds after which a wait is long.
        log_completion: "never", "after_long_wait", or "always", with which *log_after* may be left out; the end of a
            short wait is then an INFO.
        log_level: The level of all these records.
        stacklevel: Whose line is given as the waiting one: 0 for that of the await, 1 for that which awaits the
            function around it, and so on.
        name: What to call that which is waited for, instead of its own name.

    Returns:
        A coroutine for the result of *aw*; or the decorator and context manager.

    Raises:
        TypeError: *aw* is not awaitable, or an option is of a wrong kind.
        ValueError: *log_after* is missing, or not a finite number above zero; *log_completion* is none of the three;
            or, when it is awaited, *aw* is a coroutine that was awaited before, or a future of another loop.
        RuntimeError: It is awaited outside of a task, or *aw* is the current task; or a block is entered that is in
            use.

    .. versionadded:: 1.0
       The decorator, the block, and *name*.
    """
    try:
        if type(aw) is not COROUTINE and aw is not _NOTHING:
            check_awaitable(aw)
        # Most calls give nothing else. (True equals 1, so that types and identities are looked at.)
        if (
            (type(log_after) is int or type(log_after) is float)
            and log_completion == "after_long_wait"
            and log_level is None
            and stacklevel is _AWAITER
        ):
            patience = USUAL[log_after]
        else:
            patience = check_patience(log_after, log_completion, log_level, stacklevel)
        if name is not None:
            _checks.string("name", name)
        if aw is _NOTHING:
            return _ImpatientBlock(patience, name)
        unstarted = close_at_end(aw)
        unstarted.send(None)
        return impatiently(aw, patience, name, None, unstarted)
    except BaseException:
        close_unstarted(aw)
        raise
