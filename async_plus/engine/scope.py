"""`task_scope`: tasks that end with their block."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, _get_running_loop
from collections.abc import Coroutine
from contextvars import Context
from sys import _getframe
from types import CodeType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

from async_plus import _checks, stacks
from async_plus._coroutines import close_unstarted
from async_plus.engine.owned import WARN_AFTER, BlockState
from async_plus.engine.watch import ExceptionHandler, Watcher, check_handler
from async_plus.events.event import count_of
from async_plus.stacks import Place

__all__ = ["task_scope"]

_T = TypeVar("_T")

_RETURN_WHEN = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)


class _Wait:
    """One `task_scope.wait` in progress."""

    __slots__ = ("came", "late", "return_when", "task", "woken")

    def __init__(self, return_when: str, task: asyncio.Task[Any] | None, woken: asyncio.Future[None]) -> None:
        self.return_when = return_when
        self.task = task
        self.woken = woken
        # Whether that which it waits for has come, and whether its time is over.
        self.came = self.late = False

    def release(self) -> None:
        self.came = True
        self._wake()

    def time_out(self) -> None:
        self.late = True
        self._wake()

    def _wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class _Children(Watcher):
    """The tasks of a scope, and those who wait for them."""

    __slots__ = ("_origin", "_waiters")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str | None,
        origin: tuple[CodeType, int],
        on_exception: ExceptionHandler | None,
        warn_after: float,
    ) -> None:
        super().__init__(loop, "" if name is None else f"task_scope {name!r}", on_exception, warn_after)
        self._origin = origin
        self._waiters: set[_Wait] = set()

    def _warn(self) -> None:
        self._find_label()
        super()._warn()

    def _title(self) -> str:
        self._find_label()
        return super()._title()

    def _find_label(self) -> None:
        # Only when it is asked for, because it takes longer to find a line than to run a small scope.
        self._label = self._label or f"task_scope at {Place.from_code(*self._origin)}"

    async def wait(self, timeout: float | None, return_when: str) -> None:
        wait = _Wait(return_when, asyncio.current_task(), self._loop.create_future())
        self._waiters.add(wait)
        timer = None
        try:
            self._release()
            # An eager task may wait in its first step, when it is not known as one of ours yet.
            self._any_end_counts = True
            if timeout is not None and not wait.came:
                timer = self._loop.call_later(timeout, wait.time_out)
            while True:
                await wait.woken
                if wait.came and (return_when != asyncio.ALL_COMPLETED or not self._live or wait.task in self._live):
                    break
                if wait.late:
                    left = count_of(len(self._live), "task")
                    raise TimeoutError(f"{left} of the task_scope still running after {timeout:g} s")
                # The last one had ended, but others were launched before we could run.
                wait.came = False
                wait.woken = self._loop.create_future()
        except GeneratorExit:
            self._note_closing()
            raise
        finally:
            self._waiters.discard(wait)
            if timer is not None:
                timer.cancel()
            # It knows the task, and the task that is cancelled here knows this frame, by its CancelledError.
            del wait
        self._finished = self._failed = False

    def waited_for(self, wait: _Wait) -> list[asyncio.Future[Any]]:
        """Return the tasks that *wait* waits for: a child does not wait for those that wait here as well."""
        waiting = {other.task for other in self._waiters} if wait.task in self._live else ()
        return [task for task in self._live if task not in waiting]

    async def finish(self, seconds: float) -> None:
        """Wait until no task is live, *seconds* at most."""
        deadline = self._loop.time() + seconds
        # Again and again, since the end of the last task may be the reason to launch another.
        while self._live and (left := deadline - self._loop.time()) > 0:
            await self._settle(left)

    def _release(self) -> None:
        super()._release()
        stuck: list[_Wait] = []
        for wait in self._waiters:
            if wait.came:
                continue
            if wait.return_when == asyncio.FIRST_COMPLETED:
                over, self._any_end_counts = self._finished, True
            else:
                over = self._failed and wait.return_when == asyncio.FIRST_EXCEPTION
            if over or not self._live:
                wait.release()
            elif wait.task in self._live and not wait.late:
                self._any_end_counts = True
                stuck.append(wait)
        if len(stuck) == len(self._live):
            # Children that wait for each other would wait for ever.
            for wait in stuck:
                wait.release()


class task_scope:  # noqa: N801  # used like a function: async with task_scope() as scope
    """A block whose tasks end with it.

        async with task_scope() as scope:
            scope.launch(poll())
            scope.launch(serve())
            await scope.wait()

    The children are independent: the failure of one is reported at once, as with `launch_watched`, and cancels
    neither the others nor the block. (For all or nothing there is `try_gather`.) At the end of the block, those that
    still run are cancelled, each once, and waited for; one that ignores it is named in the log after *warn_after*
    seconds and at doubling gaps. An exception of the block then goes on as it was. When the caller is cancelled
    while it waits there, that cancellation is raised at the end, with the block's exception as its ``__context__``.

    A scope may be left by another task than entered it, so it works in a `contextlib.AsyncExitStack`, a fixture or an
    async generator.

    Args:
        on_exception: Called as ``on_exception(task, exc)`` for a failed child, in place of the report. It must be
            synchronous. A `launch` may name another one.
        drain: For how many seconds the end of the block lets its tasks finish by themselves before it cancels them.
            It is skipped when the block failed or was cancelled.
        warn_after: Seconds from the cancellation of a task until it is named in the log as stuck.
        name: The name of the scope in the log.

    Raises:
        TypeError: *on_exception* is async or cannot be called; a number is none.
        ValueError: *drain* is negative, *warn_after* is not above zero, or one is not finite.

    .. versionadded:: 1.0
       The parameters *drain*, *warn_after* and *name*.
    """

    __slots__ = (
        "__weakref__",
        "_accepts",
        "_children",
        "_drain",
        "_name",
        "_on_exception",
        "_origin",
        "_state",
        "_warn_after",
    )

    def __init__(
        self,
        on_exception: ExceptionHandler | None = None,
        *,
        drain: float = 0,
        warn_after: float = WARN_AFTER,
        name: str | None = None,
    ) -> None:
        check_handler(on_exception)
        self._on_exception = on_exception
        self._drain = _checks.seconds("drain", drain)
        self._warn_after = _checks.seconds("warn_after", warn_after, above_zero=True)
        self._name = name
        caller = _getframe(1)
        self._origin = caller.f_code, caller.f_lasti
        self._state = BlockState.CREATED
        self._accepts = False
        self._children: _Children | None = None

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<task_scope{name} {self._state.value}, tasks={len(self)}>"

    def __enter__(self) -> NoReturn:
        raise TypeError("use 'async with task_scope()', not 'with'")

    def __exit__(self, *_: object) -> NoReturn:
        raise TypeError("use 'async with task_scope()', not 'with'")

    async def __aenter__(self) -> Self:
        if self._state is not BlockState.CREATED:
            raise RuntimeError(f"a task_scope can be entered once, and this one is {self._state.value}")
        loop = asyncio.get_running_loop()
        self._children = _Children(loop, self._name, self._origin, self._on_exception, self._warn_after)
        self._state = BlockState.OPEN
        self._accepts = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        children = self._children
        if children is None or self._state is not BlockState.OPEN:
            raise RuntimeError(f"this task_scope cannot be left, since it is {self._state.value}")
        self._state = BlockState.ENDING
        outer: CancelledError | None = None
        later: CancelledError | None = None
        try:
            if exc is None and self._drain:
                # Children may still launch.
                try:
                    await children.finish(self._drain)
                except CancelledError as cancelled:
                    outer = cancelled
            self._accepts = False
            if isinstance(exc, GeneratorExit) and not children._may_await():
                # Closed by hand, or by the garbage collector. The tasks may outlive us.
                children._cancel()
                return
            later = await children._drain()
            outer = outer or later
            if outer is not None:
                outer.__context__ = exc
                raise outer
        finally:
            self._state = BlockState.CLOSED
            self._accepts = False
            del children._callback
            # The traceback holds this frame: what leads from it to the exceptions would close a cycle.
            outer = later = exc = None

    def launch(
        self,
        coro: Coroutine[Any, Any, _T],
        name: str | None = None,
        on_exception: ExceptionHandler | None = None,
        *,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        """Start *coro* in a task of this scope, from any task or callback of its loop, until the scope closes.

        Args:
            coro: A coroutine that has not started.
            name: The name of the task.
            on_exception: Handles a failure of this task, instead of the scope's handler.
            context: The context variables it runs with; a copy of the current ones by default.

        Returns:
            The task, a plain `asyncio.Task` around *coro* itself.

        Raises:
            TypeError: *coro* is not a coroutine, *name* is not a string, *on_exception* is async or cannot be called,
                or *context* is none.
            ValueError: *coro* was awaited or closed before.
            RuntimeError: The scope is not open, or the call does not come from its loop. As with the other errors,
                *coro* is closed.

        .. versionadded:: 1.0
           The parameter *context*.
        """
        children = self._children
        if children is None or not self._accepts or _get_running_loop() is not children._loop:
            close_unstarted(coro)
            raise RuntimeError(self._why_not())
        return children._launch(_getframe(1), coro, name, on_exception, context)

    def _why_not(self) -> str:
        if self._state is BlockState.CREATED:
            return "cannot launch before the task_scope is entered: use 'async with task_scope() as scope'"
        if not self._accepts:
            return "cannot launch into a closed task_scope: its block has ended"
        return "cannot launch from outside the task_scope's loop: use loop.call_soon_threadsafe(scope.launch, ...)"

    async def wait(self, timeout: float | None = None, return_when: str = asyncio.FIRST_EXCEPTION) -> None:
        """Wait until all tasks are done, or the first of them failed, finished, or *timeout* has passed.

        FIRST_EXCEPTION and FIRST_COMPLETED look at what has happened since the previous `wait` of this scope returned
        (or since its start), so that nothing is missed between two calls; one that timed out or was cancelled does
        not count. ALL_COMPLETED includes the tasks that are launched meanwhile. An empty scope returns at once.

        A task may wait for its own scope: those that wait there as well are not waited for.

        Args:
            timeout: In seconds; None for no limit.
            return_when: `asyncio.FIRST_EXCEPTION`, `asyncio.FIRST_COMPLETED` or `asyncio.ALL_COMPLETED`.

        Raises:
            TimeoutError: *timeout* has passed. Nothing is cancelled. A task's own error is never raised here.
            TypeError: *timeout* is not a number.
            ValueError: *timeout* is negative or not finite, or *return_when* is something else.
            RuntimeError: The scope was not entered yet, or belongs to another loop.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout)
        _checks.one_of("return_when", return_when, _RETURN_WHEN)
        if self._children is None:
            raise RuntimeError("cannot wait before the task_scope is entered: use 'async with task_scope() as scope'")
        if asyncio.get_running_loop() is not self._children._loop:
            raise RuntimeError("cannot wait from outside the task_scope's loop")
        await self._children.wait(timeout, return_when)

    def cancel(self) -> None:
        """Cancel every live task of the scope, each once: the end of the block does not cancel it again.

        The scope stays open, and may go on to launch others.
        """
        if self._children is not None:
            self._children._cancel()

    def __len__(self) -> int:
        """Return the number of live tasks."""
        return 0 if self._children is None else sum(not task.done() for task in self._children._live)

    def __bool__(self) -> bool:
        """A scope is true, empty or not, so that ``if scope:`` tells it from None."""
        return True

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """The live tasks."""
        live: Any = () if self._children is None else self._children._live
        return frozenset(task for task in live if not task.done())


stacks.register_waiter(_Children.wait, lambda variables: variables["self"]._waited_on())
stacks.register_children(_Children.wait, lambda variables: variables["self"].waited_for(variables["wait"]))
