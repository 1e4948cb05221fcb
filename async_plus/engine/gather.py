"""`try_gather`: run awaitables together, all or nothing."""

# What is a coroutine by its type is a "coroutine of unknown" to pyright from then on.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import inspect
from asyncio import CancelledError, tasks
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from types import CoroutineType, GeneratorType
from typing import Any, Never, TypeVar, overload

from async_plus import _checks
from async_plus._coroutines import Unstarted, check_fresh, close_unstarted, mark_coroutine_function
from async_plus.engine.first_hand import own_create_task
from async_plus.engine.owned import (
    Owner,
    UnexpectedCancellation,
    check_foreign,
    is_exit,
    is_reported,
    star_hint,
    task_name,
)

__all__ = ["try_gather"]

_T = TypeVar("_T")
_T1 = TypeVar("_T1")
_T2 = TypeVar("_T2")
_T3 = TypeVar("_T3")
_T4 = TypeVar("_T4")
_T5 = TypeVar("_T5")
_T6 = TypeVar("_T6")


class _Gather(Owner[bool]):
    """The children of one gather.

    Those that were tasks or futures before are live as in any owner; *about* tells whether another owner reports their
    failure. Its own tasks are kept for their results anyhow, so of those that run their number is enough.
    """

    __slots__ = ("_error", "_exits", "_free", "_lost", "_running", "_tasks", "_todo", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int | None) -> None:
        super().__init__(loop, "try_gather")
        # Its own tasks, in order, how many of them run, and for how many more there is a place under the limit.
        self._tasks: list[asyncio.Task[Any]] = []
        self._running = 0
        self._free = -1 if limit is None else limit
        # Those without a place yet, and whether there are any.
        self._todo: Iterator[Awaitable[Any]] = iter(())
        self._waiting = True
        # The first error, and whose it is if it must be logged when it cannot be raised.
        self._error: BaseException | None = None
        self._lost: Awaitable[Any] | None = None
        self._exits = False  # the program, by an error that the loop has not seen

    async def run(self, aws: Collection[Awaitable[Any]], *, futures: bool) -> list[Any]:
        """Run *aws* and return their results; *futures* tells whether there are tasks or futures among them."""
        outer: CancelledError | None = None
        try:
            self._todo = iter(self._adopt_futures(aws) if futures else aws)
            self._start()
            while self._running or self._live:
                try:
                    await self._settle()
                except CancelledError as exc:
                    outer = outer or exc
                    self._cancel()
                except BaseException:
                    # Closed by its host while it waits for the rest to stop: nobody is left to raise it to.
                    self._lose_error()
                    raise
            if outer is not None and not self._exits:
                self._lose_error()
                raise outer
            if self._error is not None:
                raise self._error
            results = [task.result() for task in self._tasks]
            if not futures:
                return results
            own = iter(results)
            return [aw.result() if asyncio.isfuture(aw) else next(own) for aw in aws]
        finally:
            # The traceback holds this frame: what leads from it to the exception would close a cycle.
            self._error = self._lost = outer = None
            self._tasks.clear()
            del aws

    def _adopt_futures(self, aws: Iterable[Awaitable[Any]]) -> list[Awaitable[Any]]:
        # They run already, limit or not, so they are owned before anything starts.
        others: list[Awaitable[Any]] = []
        for aw in aws:
            if asyncio.isfuture(aw):
                self._adopt(aw, is_reported(aw))
            else:
                others.append(aw)
        return others

    def _mine(self) -> Collection[asyncio.Future[Any]]:
        return *self._live, *self._tasks

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        # By raising it, or in the log.
        return True

    def _start(self) -> None:
        """Start coroutines in their order while there is a place under the limit."""
        loop: Any = self._loop
        create_task: Callable[..., asyncio.Task[Any]] = loop.create_task
        on_done, before = self._on_own_done, self._free
        if create_task == own_create_task(loop) and loop._task_factory is None:
            create_task = tasks.Task
        started = self._tasks.append
        free = before
        task: asyncio.Task[Any] | None = None
        try:
            for aw in self._todo:
                if type(aw) is not CoroutineType and not isinstance(aw, Coroutine):
                    aw = _as_coroutine(aw)
                try:
                    task = create_task(aw)
                except BaseException as exc:
                    # A task factory that fails, or SystemExit out of the first step of an eager task.
                    close_unstarted(aw)
                    self._exits = is_exit(exc)
                    self._fail(exc, aw)
                    return
                started(task)
                if task.done():
                    # An eager task, whose first step was its last: it needs no place and no callback.
                    self._note(task)
                    continue
                task.add_done_callback(on_done)
                free -= 1
                if not free:
                    return
            self._waiting = False
        finally:
            self._free = free
            self._running += before - free
            # The traceback of an eager task leads back to the frames that it started in (gh-128552).
            del task

    def _on_own_done(self, task: Any) -> None:
        # All in one function, since every coroutine of every gather comes through here.
        self._running -= 1
        if self._told:
            self._forget(task)
        try:
            if task.cancelled() or task.exception() is not None:
                self._note(task)
            if self._waiting:
                self._free += 1
                self._start()
        finally:
            if not self._running and not self._live:
                self._wake()

    def _on_done(self, task: Any) -> None:
        reported = self._live.pop(task)
        self._forget(task)
        try:
            self._note(task, reported)
        finally:
            if not self._running and not self._live:
                self._wake()

    def _note(self, task: asyncio.Future[Any], reported: bool = False) -> None:
        """Take note of how *task* ended; *reported* tells whether somebody else sees its failure."""
        try:
            error = task.exception()
        except CancelledError as exc:
            error = exc
        if error is None:
            return
        cause: CancelledError | None = None
        try:
            # A future may also hold a CancelledError as its exception, and not count as cancelled.
            if isinstance(error, CancelledError):
                if self._cancels:
                    return
                cause = error
                error = UnexpectedCancellation(f"{task_name(task)} was cancelled while try_gather waited for it")
                error.__cause__ = cause
            self._fail(error, None if reported else task)
        finally:
            error = cause = None

    def _fail(self, error: BaseException, failed: Awaitable[Any] | None) -> None:
        """Take *error* for the outcome, or log it if there is one; *failed* is None if it needs no log."""
        if not self._cancels:
            self._error, self._lost = error, failed
            self._cancel()
        # Two that wait for the same task fail with the same exception.
        elif failed is not None and error is not self._error:
            self._lose(failed, error)

    def _lose_error(self) -> None:
        """Log the first error, which cannot be raised any more, if there is one that nobody else sees."""
        if self._error is not None and self._lost is not None:
            self._lose(self._lost, self._error)

    def _cancel(self) -> None:
        # Which exhausts it, so that nothing starts any more.
        close_unstarted(*self._todo)
        super()._cancel()


async def _as_coroutine(aw: Awaitable[_T]) -> _T:
    return await aw


async def _try_gather(held: Unstarted, limit: int | None) -> list[Any]:
    aws: tuple[Awaitable[Any], ...] = held.aws
    held.aws = ()
    unique: dict[int, Awaitable[Any]] = {}
    try:
        try:
            loop = asyncio.get_running_loop()
            if limit is not None:
                limit = _checks.count("limit", limit, least=1)
            # Most calls give nothing else. Coroutines compare by identity, which other awaitables need not.
            fresh = _are_fresh_coroutines(aws)
            futures = not fresh and _check(aws, loop)
            distinct = len(set(aws) if fresh else set(map(id, aws)))
        except BaseException:
            close_unstarted(*aws)
            raise
        if not aws:
            return []
        if distinct == len(aws):
            return await _Gather(loop, limit).run(aws, futures=futures)
        # The same awaitable twice runs once and fills both slots.
        unique = dict(zip(map(id, aws), aws, strict=True))
        results = await _Gather(loop, limit).run(unique.values(), futures=futures)
        result_of = dict(zip(unique, results, strict=True))
        return [result_of[id(aw)] for aw in aws]
    finally:
        # As in run(): a failed task that was given to us leads to this frame through its traceback.
        del aws, unique


def _are_fresh_coroutines(aws: tuple[object, ...]) -> bool:
    """Tell whether all of *aws* are coroutines of Python's own, as `check_fresh` wants them."""
    for aw in aws:
        if type(aw) is not CoroutineType or aw.cr_suspended or aw.cr_running or aw.cr_frame is None:
            return False
    return True


def _check(aws: tuple[object, ...], loop: asyncio.AbstractEventLoop) -> bool:
    """Refuse what cannot be run, before anything does. Tell whether there are futures among the *aws*."""
    futures = False
    for number, aw in enumerate(aws, 1):
        what = f"argument {number} of try_gather()"
        if asyncio.isfuture(aw):
            check_foreign(what, aw, loop)
            futures = True
        elif isinstance(aw, Coroutine):
            check_fresh(what, aw)
        elif type(aw) is GeneratorType and aw.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            # Made by @types.coroutine. Awaited again, it would return None at once, as if it had run.
            if inspect.getgeneratorstate(aw) != inspect.GEN_CREATED:
                raise ValueError(f"{what} was awaited or closed before: generator {aw.__qualname__}")
        elif not inspect.isawaitable(aw):
            raise TypeError(f"{what} must be awaitable, got {_checks.kind(aw)}{star_hint(aw)}")
    return futures


# fmt: off
@overload
def try_gather(aw1: Awaitable[_T1], /, *, limit: int | None = None) -> Coroutine[Any, Any, tuple[_T1]]: ...
@overload
def try_gather(
    aw1: Awaitable[_T1], aw2: Awaitable[_T2], /, *, limit: int | None = None
) -> Coroutine[Any, Any, tuple[_T1, _T2]]: ...
@overload
def try_gather(
    aw1: Awaitable[_T1], aw2: Awaitable[_T2], aw3: Awaitable[_T3], /, *, limit: int | None = None
) -> Coroutine[Any, Any, tuple[_T1, _T2, _T3]]: ...
@overload
def try_gather(
    aw1: Awaitable[_T1], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], /, *, limit: int | None = None
) -> Coroutine[Any, Any, tuple[_T1, _T2, _T3, _T4]]: ...
@overload
def try_gather(
    aw1: Awaitable[_T1], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5], /,
    *, limit: int | None = None,
) -> Coroutine[Any, Any, tuple[_T1, _T2, _T3, _T4, _T5]]: ...
@overload
def try_gather(
    aw1: Awaitable[_T1], aw2: Awaitable[_T2], aw3: Awaitable[_T3], aw4: Awaitable[_T4], aw5: Awaitable[_T5],
    aw6: Awaitable[_T6], /, *, limit: int | None = None,
) -> Coroutine[Any, Any, tuple[_T1, _T2, _T3, _T4, _T5, _T6]]: ...
# Seven or more, so that no call matches both this and one of the above: mypy would give it up and say Any.
@overload
def try_gather(
    aw1: Awaitable[_T], aw2: Awaitable[_T], aw3: Awaitable[_T], aw4: Awaitable[_T], aw5: Awaitable[_T],
    aw6: Awaitable[_T], aw7: Awaitable[_T], /, *aws: Awaitable[_T], limit: int | None = None,
) -> Coroutine[Any, Any, list[_T]]: ...
@overload
def try_gather(*, limit: int | None = None) -> Coroutine[Any, Any, list[Never]]: ...
# fmt: on


@mark_coroutine_function
def try_gather(*aws: Awaitable[Any], limit: int | None = None) -> Coroutine[Any, Any, Any]:
    """Run *aws* together and return their results in order; the first error stops them all.

    When one fails, the rest is cancelled and waited for, and then its exception is raised as it is, in no group.
    Nothing runs any more when the call returns or raises, whether it succeeded, failed or was cancelled. No error is
    lost: those that come after the first one, from cleanup too, are logged as they come, and so is the first one if
    the caller is cancelled before it can be raised.

    A task or future among *aws* is owned from then on, and cancelled with the rest; `asyncio.shield` keeps it out.
    The same awaitable given twice runs once and fills both slots. A child that ignores its cancellation is waited
    for, and named in the log after 5 seconds and then at doubling gaps.

    The static type is a tuple for up to six awaitables, as with `asyncio.gather`, so that each result keeps its own
    type. What you get is always a list.

    Args:
        aws: Coroutines, tasks, futures and other awaitables.
        limit: How many coroutines may run at a time; the others start, in order, as places become free. Tasks and
            futures run already and take no place.

    Returns:
        A coroutine for the list of the results, in the order of *aws*.

    Raises:
        TypeError: An argument is not awaitable, or *limit* is not a whole number.
        ValueError: *limit* is less than 1, a coroutine was awaited or closed before, or a task belongs to another
            loop.
        RuntimeError: The current task is among *aws*, or no event loop is running.
        UnexpectedCancellation: A child was cancelled by somebody else.

    .. versionadded:: 1.0
       The parameter *limit*.
    """
    return _try_gather(Unstarted(aws), limit)


_try_gather.__name__ = _try_gather.__qualname__ = "try_gather"
