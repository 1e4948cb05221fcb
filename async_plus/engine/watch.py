"""`launch_watched`: background tasks whose failure is seen at once."""

# What is a coroutine by its type is a "coroutine of unknown" to pyright from then on.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import CodeType, CoroutineType, FrameType
from typing import Any, TypeAlias, TypeVar

from async_plus import _checks, events
from async_plus._coroutines import check_fresh, close_unstarted
from async_plus.engine.first_hand import own_create_task
from async_plus.engine.owned import WARN_AFTER, Owner, is_exit, task_name
from async_plus.engine.per_loop import per_loop
from async_plus.stacks import Place
from async_plus.stacks.names import callable_name

__all__ = ["ExceptionHandler", "Watcher", "check_handler", "check_name", "ignore", "launch_from", "launch_watched"]

_T = TypeVar("_T")

# None, not object, so that type checkers refuse an async one as well.
ExceptionHandler: TypeAlias = Callable[[asyncio.Task[Any], BaseException], None]

# Where a task was launched, in the form that costs least to remember, and who handles its failure.
_Launch: TypeAlias = tuple[CodeType, int, "ExceptionHandler | None"]


def ignore(task: asyncio.Task[Any], exc: BaseException) -> None:
    """An ``on_exception`` for a task that will be awaited: its failure is raised there, so it is not reported.

    If nobody awaits it after all, the failure is lost.

    .. versionadded:: 1.0
    """


def check_handler(on_exception: object) -> None:
    """Refuse what cannot serve as ``on_exception``.

    Raises:
        TypeError: It cannot be called, or is async.
    """
    if on_exception is not None and on_exception is not ignore:
        _checks.callback("on_exception", on_exception, "taking a task and an exception")


def check_name(name: object) -> None:
    """Refuse what is no name of a task.

    Raises:
        TypeError: It is not a string.
    """
    # asyncio would make a name of anything, and in 0.3 the handler came here:
    #
    #     scope.launch(poll(), alert)
    _checks.string("name", name, " (is it meant to be on_exception?)" if callable(name) else "")


def _check_context(context: object) -> None:
    # asyncio takes anything, and then neither runs nor ends the task.
    if not isinstance(context, Context):
        raise TypeError(f"context must be a contextvars.Context, got {_checks.kind(context)}")


class Watcher(Owner[_Launch]):
    """An owner that reports the failure of each of its tasks, the moment it is raised."""

    __slots__ = ("_any_end_counts", "_callback", "_create_task", "_failed", "_finished", "_on_exception")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        label: str = "launch_watched",
        on_exception: ExceptionHandler | None = None,
        warn_after: float = WARN_AFTER,
    ) -> None:
        super().__init__(loop, label, warn_after)
        self._on_exception = on_exception
        self._create_task = own_create_task(loop)
        # Whether any task has finished or failed, until a `task_scope.wait` has taken note of it.
        self._finished = self._failed = False
        # Whether somebody may be free to go on whenever a task has ended, not only when none is left.
        self._any_end_counts = False
        # One bound method for all tasks. It leads back to us, so whoever ends before the loop does removes it.
        self._callback = self._on_done

    def _launch(
        self,
        caller: FrameType,
        coro: Coroutine[Any, Any, _T],
        name: str | None,
        on_exception: ExceptionHandler | None,
        context: Context | None,
    ) -> asyncio.Task[_T]:
        """Start *coro* in a task; *caller* is the frame of user code that is named when it fails."""
        loop: Any = self._loop
        task: asyncio.Task[_T]
        try:
            if type(coro) is not CoroutineType or coro.cr_suspended or coro.cr_frame is None or coro.cr_running:
                check_fresh("coro", coro)
            if name is not None:
                check_name(name)
            if on_exception is not None:
                check_handler(on_exception)
            if context is not None:
                _check_context(context)
            elif name is None and loop.create_task == self._create_task and loop._task_factory is None:
                # As most are. It starts in the next turn of the loop, when it is one of ours.
                task = tasks.Task(coro)
                self._live[task] = (caller.f_code, caller.f_lasti, on_exception)
                task.add_done_callback(self._callback)
                return task
            cancels = self._cancels
            if context is not None:
                task = loop.create_task(coro, name=name, context=context)
            elif name is not None:
                task = loop.create_task(coro, name=name)
            else:
                # Passed on through a task factory, a name of None becomes the name "None" (CPython 3.13).
                task = loop.create_task(coro)
        except BaseException:
            close_unstarted(coro)
            raise
        self._live[task] = (caller.f_code, caller.f_lasti, on_exception)
        task.add_done_callback(self._callback)
        if self._cancels != cancels:  # pragma: >=3.12 cover
            # An eager task that cancelled us in its first step, before it was one of ours:
            #
            #     async def child():
            #         scope.cancel()
            #         scope.launch(successor())       # comes after the cancellation, so it is left alone
            #         await forever()
            self._cancel_one(task)
        try:
            return task
        finally:
            # The traceback of an eager task leads back to the frames that it started in (gh-128552).
            del task

    def _on_done(self, task: Any) -> None:
        # All in one function, since every task of every scope comes through here.
        live = self._live
        about = live.pop(task)
        told = self._told and self._forget(task)
        self._finished = True
        try:
            if task.cancelled():
                if not told and not task.cancelling():
                    events.emit(events.TaskCancelled(task=task_name(task), launched_at=_place(about)))
            elif (exc := task.exception()) is not None:
                self._failed = self._any_end_counts = True
                if not is_exit(exc):
                    self._report(task, exc, about)
        finally:
            exc = None
            if self._any_end_counts or not live:
                self._release()

    def _release(self) -> None:
        """Let those go on whose wait is over."""
        self._any_end_counts = False
        if not self._live:
            self._wake()

    def _report(self, task: Any, exc: BaseException, about: _Launch) -> None:
        handler: Callable[..., object] | None = self._handler(about)
        if handler is None:
            self._tell(task, exc, about)
            return
        traceback, handlers = exc.__traceback__, None
        try:
            result = handler(task, exc)
            if asyncio.iscoroutine(result):
                # A lambda around an async function: nothing could tell before the call.
                close_unstarted(result)
                raise TypeError("on_exception must be synchronous, but it returned a coroutine")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as failure:
            # A handler may raise what it was given. Then the two have one traceback, which leads back to the task by
            # way of this frame: a cycle.
            # (Not set by the attribute, which a frozen dataclass refuses.)
            handlers = failure.__traceback__
            exc.with_traceback(traceback)
            self._tell(task, exc, about)
            failure.with_traceback(handlers)
            events.emit(events.HandlerFailed(task=task_name(task), handler=callable_name(handler), exception=failure))
            exc.with_traceback(traceback)
        finally:
            del exc, traceback, handlers

    def _tell(self, task: asyncio.Future[Any], exc: BaseException, about: _Launch) -> None:
        events.emit(events.TaskFailed(task=task_name(task), launched_at=_place(about), exception=exc))

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        return self._handler(self._live[task]) is not ignore

    def _handler(self, about: _Launch) -> ExceptionHandler | None:
        # A handler may be false: an empty list that can be called, say.
        return self._on_exception if about[2] is None else about[2]


def _place(about: _Launch) -> Place:
    code, lasti, _ = about
    return Place.from_code(code, lasti)


def launch_from(
    caller: FrameType,
    coro: Coroutine[Any, Any, _T],
    name: str | None,
    on_exception: ExceptionHandler | None,
    context: Context | None = None,
) -> asyncio.Task[_T]:
    """`launch_watched`, on behalf of *caller*."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        close_unstarted(coro)
        raise RuntimeError("a watched task needs a running event loop: launch it from a coroutine") from None
    return per_loop(loop, Watcher)._launch(caller, coro, name, on_exception, context)


def launch_watched(
    coro: Coroutine[Any, Any, _T],
    name: str | None = None,
    on_exception: ExceptionHandler | None = None,
    *,
    context: Context | None = None,
) -> asyncio.Task[_T]:
    """Start *coro* in a background task that is kept alive until it ends, and whose failure is seen at once.

    An exception is logged the moment it is raised: an ERROR with its traceback, the task's name and the line of this
    call. A cancellation that nobody requested is a WARNING; a requested one is silent.

    Args:
        coro: A coroutine that has not started.
        name: The name of the task.
        on_exception: Called as ``on_exception(task, exc)`` in place of the report. It must be synchronous. If it
            raises, both failures are logged, and nothing propagates. `ignore` is for a task that will be awaited.
        context: The context variables it runs with; a copy of the current ones by default.

    Returns:
        The task, a plain `asyncio.Task` around *coro* itself.

    Raises:
        TypeError: *coro* is not a coroutine, *name* is not a string, *on_exception* is async or cannot be called, or
            *context* is none.
        ValueError: *coro* was awaited or closed before.
        RuntimeError: No event loop is running. As with the other errors, *coro* is closed.

    .. versionadded:: 1.0
       The parameter *context*.
    """
    return launch_from(sys._getframe(1), coro, name, on_exception, context)
