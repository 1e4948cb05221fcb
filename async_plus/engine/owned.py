"""Tasks that have an owner, and end before the owner does: the core of gathers and scopes."""

from __future__ import annotations

import asyncio
import enum
from asyncio import CancelledError
from collections.abc import Awaitable, Collection, Iterable, Iterator
from types import MethodType
from typing import Any, Generic, TypeVar

from async_plus import _checks, events, stacks
from async_plus._coroutines import close_unstarted
from async_plus.stacks.names import name_of_task

__all__ = [
    "WARN_AFTER",
    "BlockState",
    "Owner",
    "Stopping",
    "UnexpectedCancellation",
    "cancel_and_wait",
    "check_foreign",
    "is_exit",
    "is_reported",
    "owners_of",
    "star_hint",
    "task_name",
]

WARN_AFTER = 5.0

_About = TypeVar("_About")


class BlockState(enum.Enum):
    """What a block that owns tasks is at."""

    CREATED = "not entered"
    OPEN = "open"
    ENDING = "ending"
    CLOSED = "closed"


class UnexpectedCancellation(RuntimeError):  # noqa: N818  # it is named like the CancelledError it stands for
    """A task was cancelled although nobody who waits for it was.

    A bare `asyncio.CancelledError` would pass for the cancellation of the waiting task itself. The original one is
    the ``__cause__``.

    .. versionadded:: 1.0
    """


def is_exit(exc: BaseException) -> bool:
    """Tell whether *exc* ends the program: the loop itself raises it, so it is never reported nor converted."""
    return isinstance(exc, (SystemExit, KeyboardInterrupt))


def task_name(task: Any) -> str:
    """Name *task* for people: its name, or what it runs or is, if it has none."""
    return name_of_task(task) if hasattr(task, "get_name") else stacks.name_of(task)


def check_foreign(what: str, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    """Refuse a future that the running task cannot wait for.

    Raises:
        RuntimeError: It is the running task itself.
        ValueError: It belongs to another loop.
    """
    if future.get_loop() is not loop:
        raise ValueError(f"{what} belongs to another event loop")
    if future is asyncio.current_task(loop):
        raise RuntimeError(f"{what} is the current task, which cannot wait for itself")


def star_hint(value: object) -> str:
    """Help whoever passed a collection of what is taken one by one."""
    return " (unpack it with *)" if isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)) else ""


class Owner(Generic[_About]):
    """A set of running tasks, each with what its owner knows *about* it.

    The owner waits on a future of its own, never on the tasks. So a CancelledError at that await always comes from
    outside (awaiting a child could not tell the child's cancellation from the host's: gh-152569, gh-156321), and
    no `uncancel()` is ever needed (gh-116720).
    """

    __slots__ = (
        "__weakref__",
        "_cancels",
        "_closer",
        "_gap",
        "_label",
        "_live",
        "_loop",
        "_told",
        "_wakeup",
        "_warn_after",
        "_warn_timer",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, label: str, warn_after: float = WARN_AFTER) -> None:
        self._loop = loop
        self._label = label
        self._live: dict[asyncio.Future[Any], _About] = {}
        self._wakeup: asyncio.Future[None] | None = None
        # Who closes a coroutine that waits for our tasks: a task, or none.
        self._closer: tuple[asyncio.Task[Any] | None] | None = None
        # The live tasks that were cancelled by this owner, and when: each is cancelled once.
        self._told: dict[asyncio.Future[Any], float] = {}
        self._cancels = 0
        self._warn_after = self._gap = warn_after
        self._warn_timer: asyncio.TimerHandle | None = None

    def _adopt(self, task: asyncio.Future[Any], about: _About) -> None:
        self._live[task] = about
        task.add_done_callback(self._on_done)

    def _on_done(self, task: Any) -> None:
        """Let *task* go, take note of how it ended, and wake the host if it was the last one.

        Each kind of owner has this all in one function, since each of its tasks comes through here.
        """
        raise NotImplementedError

    def _mine(self) -> Collection[asyncio.Future[Any]]:
        """Return the tasks, of which some may have ended."""
        return self._live

    def _forget(self, task: asyncio.Future[Any]) -> bool:
        """Strike *task* from those that were cancelled, and tell whether it was one."""
        told = self._told.pop(task, None) is not None
        if not self._told and self._warn_timer is not None:
            self._warn_timer.cancel()
            self._warn_timer = None
            self._gap = self._warn_after
        return told

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def _settle(self, timeout: float | None = None) -> None:
        """Wait until no task is live, *timeout* seconds at most."""
        self._wakeup = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, self._wake)
        try:
            await self._wakeup
        except CancelledError:
            raise
        except BaseException:
            # The host was closed while it waited here:
            #
            #     host = service()
            #     host.send(None)
            #     host.close()        # GeneratorExit at this await
            #
            # Awaiting again would be an error, so the tasks are told and may outlive us.
            self._cancel()
            raise
        finally:
            self._wakeup = None
            if timer is not None:
                timer.cancel()

    def _note_closing(self) -> None:
        """Remember, for the rest of this step, that a coroutine is being closed which waits for our tasks.

            host = service()        # async with task_scope() as scope: await scope.wait()
            host.send(None)
            host.close()            # GeneratorExit, in wait() and then in the exit

        It may not await any more, and so that exit may not either.
        """
        if asyncio._get_running_loop() is self._loop:
            self._closer = (asyncio.current_task(self._loop),)
            self._loop.call_soon(setattr, self, "_closer", None)

    def _may_await(self) -> bool:
        """Tell whether an exit by GeneratorExit may wait: not if it comes from us, or after the end of the loop."""
        if asyncio._get_running_loop() is not self._loop:
            return False
        # (Another task may be here in the same turn of the loop.)
        return self._closer is None or self._closer[0] is not asyncio.current_task(self._loop)

    async def _drain(self) -> CancelledError | None:
        """Cancel what is live and wait until all of it has stopped, however often the host is cancelled.

        Returns:
            The first cancellation of the host that came meanwhile.
        """
        if self._live:
            self._cancel()
        return await self._outlast(self._live)

    async def _outlast(self, running: Collection[object]) -> CancelledError | None:
        """Wait until *running* is empty, however often the host is cancelled.

        Returns:
            The first cancellation of the host that came meanwhile.
        """
        outer = None
        try:
            while running:
                try:
                    await self._settle()
                except CancelledError as exc:
                    outer = outer or exc
            return outer
        finally:
            del outer

    def _cancel(self) -> None:
        """Cancel every live task that this owner has not cancelled yet."""
        self._cancels += 1
        if self._loop.is_closed():
            # A host that the garbage collector closes after its loop. Nothing can run any more.
            return
        now = self._loop.time()
        told = False
        for task in tuple(self._mine()):
            # cancel() on a task that has failed is a no-op, yet it marks the exception as seen.
            if task not in self._told and not task.done():
                self._told[task] = now
                told = True
                task.cancel()
        if told:
            self._warn_at(now + self._warn_after)

    def _cancel_one(self, task: asyncio.Future[Any]) -> None:
        """Cancel *task*, unless this owner has cancelled it before."""
        if task not in self._told and not task.done():
            now = self._told[task] = self._loop.time()
            task.cancel()
            self._warn_at(now + self._warn_after)

    def _warn_at(self, when: float) -> None:
        if self._warn_timer is not None:
            if self._warn_timer.when() <= when:
                return
            # It waits out a long gap, for the sake of tasks that have been named before.
            self._warn_timer.cancel()
        self._warn_timer = self._loop.call_at(when, self._warn)

    def _warn(self) -> None:
        self._warn_timer = None
        now = self._loop.time()
        since = {task: now - told for task, told in self._told.items() if not task.done()}
        stuck = {task: after for task, after in since.items() if after >= self._warn_after * 0.999}
        # Those that the timer was set for may have stopped, and the others been told later.
        delay = self._warn_after - max(since.values(), default=0.0)
        if stuck:
            self._gap *= 2
            tasks = tuple(events.StuckTask(task_name(task), stacks.parked(task)) for task in stuck)
            after = max(stuck.values())
            events.emit(events.StuckTasks(owner=self._label, after=after, tasks=tasks))
            delay = self._gap if len(stuck) == len(since) else self._warn_after
        self._warn_at(now + delay)

    def _title(self) -> str:
        """Name this owner for people."""
        return self._label

    def _waited_on(self) -> str:
        return stacks.listing(f"{self._title()} of", self._mine())

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        """Tell whether this owner reports the failure of *task*, or raises it."""
        raise NotImplementedError

    def _lose(self, task: Awaitable[Any], exc: BaseException) -> None:
        """Log *exc*, which cannot be raised any more."""
        if not is_exit(exc):
            events.emit(events.LateFailure(task=task_name(task), owner=self._label, exception=exc))


def is_reported(task: asyncio.Future[Any]) -> bool:
    """Tell whether somebody else sees the failure of *task*: an owner that reports it or, if it is done, anybody."""
    if task.done():
        # Its callbacks are gone. The flag is what asyncio has for "never retrieved".
        return not getattr(task, "_log_traceback", True)
    return any(owner._reports(task) for owner in owners_of(task))


def owners_of(task: asyncio.Future[Any]) -> Iterator[Owner[Any]]:
    """Yield the owners of *task*, which has not ended, in the order in which they came to own it."""
    try:
        callbacks: Any = getattr(task, "_callbacks", None) or ()
    except Exception:  # a class of the user's
        callbacks = ()
    for callback, _ in callbacks:
        # Nothing is asked of what is not a method: it may be anything.
        owner: Any = callback.__self__ if type(callback) is MethodType else None
        if issubclass(type(owner), Owner):
            yield owner


class Stopping(Owner[bool]):
    """The tasks of one `cancel_and_wait`; *about* tells whether another owner reports their failure."""

    __slots__ = ()

    def _on_done(self, task: Any) -> None:
        about = self._live.pop(task)
        self._forget(task)
        try:
            exc = None if task.cancelled() else task.exception()
            # A future may hold a CancelledError as its exception and still not count as cancelled.
            if exc is not None and not about and not isinstance(exc, CancelledError):
                self._lose(task, exc)
        finally:
            if not self._live:
                self._wake()

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        return task in self._live


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel *tasks* and return when every one of them has stopped.

    Each is cancelled once. One that ignores it is waited for, and named in the log after 5 seconds and at doubling
    gaps. Errors raised in their cleanup are logged, never raised. When the caller is cancelled meanwhile, it still
    waits for them, and is cancelled then.

    Args:
        tasks: Tasks or futures of the running loop. Finished ones and repeats are fine.

    Raises:
        TypeError: One is neither a task nor a future.
        ValueError: One belongs to another loop.
        RuntimeError: One is the current task, or no event loop is running.

    .. versionadded:: 1.0
    """
    try:
        stopping = Stopping(asyncio.get_running_loop(), "cancel_and_wait")
        for number, task in enumerate(tasks, 1):
            what = f"argument {number} of cancel_and_wait()"
            if not asyncio.isfuture(task):
                raise TypeError(f"{what} must be a task or a future, got {_checks.kind(task)}{star_hint(task)}")
            check_foreign(what, task, stopping._loop)
    except BaseException:
        close_unstarted(*tasks)
        raise
    for task in tasks:
        if not task.done() and task not in stopping._live:
            stopping._adopt(task, is_reported(task))
    outer = await stopping._drain()
    if outer is not None:
        try:
            raise outer
        finally:
            del outer


# Whoever waits for owned tasks is parked on a private future, which says nothing; these say whom it waits for.
stacks.register_waiter(Owner[Any]._settle, lambda variables: variables["self"]._waited_on())
stacks.register_children(Owner[Any]._settle, lambda variables: tuple(variables["self"]._mine()))
