"""Errors that are kept for long, and so must not keep the frames alive through which they came."""

from __future__ import annotations

import contextlib
from typing import Any, cast

__all__ = ["strip_tracebacks", "without_tracebacks"]


def strip_tracebacks(error: BaseException) -> None:
    """Let go of the frames that *error* holds, and those that led to it.

    A service may raise one and the same exception again and again, and Python would add to its traceback each time.
    """
    todo, seen = [error], set[int]()
    while todo:
        exc = todo.pop()
        if id(exc) in seen:
            continue
        seen.add(id(exc))
        # Not by its attribute, which a frozen dataclass refuses to set.
        exc.with_traceback(None)
        # (An exception may be false.)
        todo += (led_here for led_here in (exc.__cause__, exc.__context__) if led_here is not None)
        todo += _parts(exc)


def without_tracebacks(error: BaseException) -> BaseException:
    """Return a copy of *error*, with copies of what led to it, none of which has a traceback.

    An exception of a kind that cannot be copied is represented by the next of its bases that can.
    """
    return _copy(error, {})


def _copy(error: BaseException, copies: dict[int, BaseException]) -> BaseException:
    if id(error) in copies:
        return copies[id(error)]
    copy = copies[id(error)] = _bare_copy(error, copies)
    # The slots of BaseException, below whatever a class of the user's makes of them.
    for attribute in ("__cause__", "__context__"):
        led_here: BaseException | None = getattr(error, attribute)
        if led_here is not None:
            BaseException.__setattr__(copy, attribute, _copy(led_here, copies))
    BaseException.__setattr__(copy, "__suppress_context__", error.__suppress_context__)
    return copy


def _bare_copy(error: BaseException, copies: dict[int, BaseException]) -> BaseException:
    kinds: tuple[Any, ...] = type(error).__mro__
    attributes = vars(error)
    args: tuple[Any, ...] = error.args
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        args = group.message, [_copy(part, copies) for part in group.exceptions]
    elif isinstance(error, OSError):
        # Not all of them are in its args.
        args = cast("tuple[type[OSError], tuple[Any, ...]]", OSError.__reduce__(error))[1]
    for kind in kinds[: kinds.index(BaseException)]:
        with contextlib.suppress(Exception):  # of a class of the user's
            # Without __init__, which may take other arguments and do anything.
            copy: BaseException = kind.__new__(kind, *args)
            vars(copy).update(attributes)
            return copy
    return BaseException(*args)


def _parts(error: BaseException) -> tuple[BaseException, ...]:
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions
