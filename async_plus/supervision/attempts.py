"""The attempts of a supervisor's children: how one starts, is stopped, and ends, and what that means for its child.

Which child it is the turn of, `Children` decides; whatever happens here ends in its `advance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from asyncio import CancelledError
from contextvars import ContextVar
from typing import Any, Literal, cast

from async_plus import events
from async_plus._coroutines import close_unstarted
from async_plus.engine.owned import Owner, is_exit
from async_plus.engine.per_loop import per_loop
from async_plus.supervision.child import Child, ChildState
from async_plus.supervision.errors import strip_tracebacks, without_tracebacks
from async_plus.supervision.history import failure_of
from async_plus.supervision.policy import NEVER_RESTARTED
from async_plus.supervision.restarts import restarted_by_supervisor
from async_plus.supervision.vitals import Signs, Vitals

__all__ = ["Attempts", "parent", "wake_all"]

# When the host of a supervisor is cancelled together with all tasks, its exit comes within a turn of the loop or two.
# Should it never come, what was cancelled and may be restarted is started again after these seconds at least.
_UNLESS_HOST_ENDS = 1.0

# The child whose attempt runs in this context.
parent: ContextVar[Child | None] = ContextVar("async_plus_parent", default=None)


class Attempts(Owner[Child]):
    """The running attempts of the children of one supervisor, and the error of the child that was given up."""

    __slots__ = (
        "_children",
        "_closing",
        "_host",
        "_host_count",
        "_is_busy",
        "_name",
        "_stopping",
        "failure",
        "is_failure_raised",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, warn_after: float) -> None:
        super().__init__(loop, f"supervisor {name!r}", warn_after)
        self._name = name
        # Those that are neither done nor failed, in the order in which they start.
        self._children: dict[Child, None] = {}
        self._closing = False
        self._stopping: set[Child] = set()
        # Whoever calls `advance` meanwhile has their turn afterwards.
        self._is_busy = False
        # The error of the child that was given up, with its name.
        self.failure: tuple[str, BaseException] | None = None
        self.is_failure_raised = False
        self._host = asyncio.current_task(loop)
        self._host_count = 0
        self.note_host()

    # What whoever decides on turns adds.

    def advance(self, child: Child | None) -> None:
        """Do what is due now for *child*, or for all."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop all, and start none any more."""
        raise NotImplementedError

    def _restart_siblings(self, child: Child) -> None:
        """Have those stopped that are to start again together with *child*."""
        raise NotImplementedError

    # The host.

    def note_host(self) -> None:
        """Take note of how often the host has been cancelled, when it evidently goes on in spite of it."""
        if self._host is not None and self._host is asyncio.current_task(self._loop):
            self._host_count = self._host.cancelling()

    def let_host_go(self) -> None:
        """Forget the host, whose task may hold what it ended in."""
        self._host = None

    # The failure.

    def raise_failure(self) -> None:
        """Raise the error of the child that was given up, if there is one."""
        if self.failure is not None:
            _, error = self._take_failure(*self.failure)
            try:
                raise error
            finally:
                del error

    def report_failure_unless(self, raised: BaseException | None) -> None:
        """Report that error, if nobody has seen it raised and it is not *raised* either."""
        if self.failure is not None and not self.is_failure_raised:
            name, error = self._take_failure(*self.failure)
            if error is not raised and not is_exit(error):
                events.emit(events.LateFailure(task=name, owner=self._label, exception=error))

    def _take_failure(self, name: str, error: BaseException) -> tuple[str, BaseException]:
        self.is_failure_raised = True
        # For whoever asks later. The traceback of the error itself will lead to the host, which holds us.
        self.failure = name, without_tracebacks(error)
        return name, error

    # An attempt, from its start to what follows from its end.

    def _spawn(self, child: Child) -> None:
        was_first, child._is_first = child._is_first, False
        child._due = None
        child._is_spawned = True
        child.started_at = self._loop.time()
        child._history.start(child.started_at)
        try:
            # A copy, since the attempt before may still run what it has left behind.
            task = child._context.copy().run(self._create_task, child)
        except BaseException as exc:
            # The arguments do not fit, so that no restart would help; a task factory that fails; or SystemExit out of
            # the first step of an eager task.
            if was_first and not is_exit(exc):
                # For whoever asked for this start, who may not be the one who made us come here.
                child._refusal = exc
                self._finish(child, ChildState.FAILED)
                return
            self._give_up(child, exc)
            if is_exit(exc):
                raise
            return
        finally:
            child._is_spawned = False
        child._task = task
        self._adopt(task, child)
        # (Not if its first step has had it stopped or restarted.)
        if not child._policy.ready and not child._to_stop:
            child._is_up = child._was_up = True
            wake_all(child._waiters)

    def _create_task(self, child: Child) -> asyncio.Task[Any]:
        parent.set(child)
        policy, history = child._policy, child._history
        restarted_by_supervisor.set(policy)
        title = f"{child.name}#{history.attempt}"
        coro = child._fn()
        try:
            if not policy.has_vitals:
                return self._loop.create_task(coro, name=title)
            on_ready = functools.partial(self._on_ready, child)
            child._signs = Signs(
                history, child.name, history.attempt, policy.heartbeat, policy.ready, self._cancel_one, on_ready
            )
            return child._signs.create_task(coro, title)
        except BaseException:
            close_unstarted(coro)
            raise

    def _on_ready(self, child: Child) -> None:
        # It may say so in its cleanup yet, when whoever waits wants the next attempt.
        if child.state is ChildState.STOPPING:
            return
        child._is_up = child._was_up = True
        wake_all(child._waiters)
        self.advance(child)

    def _stop(self, child: Child) -> None:
        child._to_stop = False
        child._is_told = True
        if child._signs is not None:
            child._signs.excuse()
        self._stopping.add(child)
        self._cancel_one(cast("asyncio.Task[Any]", child._task))

    def _on_done(self, task: Any) -> None:
        child = self._live.pop(task)
        is_cancelled_by_us = self._forget(task)
        hung = None
        if child._signs is not None:
            hung, child._signs = child._signs.end(), None
        # Told all at once, by _cancel(), they are not told one by one.
        is_stopped = child._is_told or (is_cancelled_by_us and hung is None)
        child._is_told = child._to_stop = child._is_up = False
        child._task = None
        self._stopping.discard(child)
        child._history.since = self._loop.time()
        error: BaseException | None = None
        # What is reported may have others call us, from within an eager task say. They have their turn afterwards.
        self._is_busy = True
        try:
            try:
                # Not exception(): the task would keep the traceback as well. That of an eager task which fails in its
                # first step leads back to the task (gh-128552).
                task.result()
            except BaseException as exc:
                # Without this frame, which knows the child.
                error = exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next)
            if is_stopped:
                self._after_stop(child, error)
            elif isinstance(error, CancelledError) and hung is None and self._is_host_cancelled():
                # All tasks are cancelled, as asyncio.run does at its end, and so is the host: no failure of the child.
                child._history.stop()
                if child._policy.restart == "never":
                    self._finish(child, ChildState.DONE)
                else:
                    child._due = self._loop.time() + max(child._history.next_delay(), _UNLESS_HOST_ENDS)
            else:
                self._after_end(child, failure_of(error, hung, child.name))
        finally:
            error = hung = None
            self._is_busy = False
            self.advance(child)

    def _is_host_cancelled(self) -> bool:
        return self._host is not None and self._host.cancelling() > self._host_count

    def _after_stop(self, child: Child, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, (CancelledError, *NEVER_RESTARTED)):
            self._report_stopped(child, error)
        child._history.stop()
        if child._due is None:
            self._finish(child, ChildState.DONE)

    def _after_end(self, child: Child, error: BaseException | None) -> None:
        now = self._loop.time()
        if self._closing:
            # It ended before its turn to be stopped came.
            if error is not None and not isinstance(error, NEVER_RESTARTED):
                self._report_stopped(child, error)
            self._finish(child, ChildState.DONE if error is None else ChildState.FAILED)
            return
        history = child._history
        try:
            delay = history.after_return(now) if error is None else history.after_failure(error, now)
        except BaseException as broken:
            # Of the predicate `on`.
            self._give_up(child, broken)
            if is_exit(broken):
                raise
            return
        if delay is not None:
            child.restarts += 1
            child._due = now + delay
            if error is not None:
                self._keep(child, error)
            self._restart_siblings(child)
        elif error is None:
            self._finish(child, ChildState.DONE)
        else:
            self._give_up(child, error)

    def _report_stopped(self, child: Child, error: BaseException) -> None:
        child._history.report_stopped(error, self._loop.time())
        self._keep(child, error)

    def _keep(self, child: Child, error: BaseException) -> None:
        strip_tracebacks(error)
        child.last_error = error

    def _give_up(self, child: Child, error: BaseException) -> None:
        note = f"child {child.name!r} of supervisor {self._name!r}"
        # A frozen dataclass takes no note.
        with contextlib.suppress(Exception):
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
        self.failure = child.name, error
        # It will be raised, with its traceback, and by then lead to whoever holds the child.
        child.last_error = without_tracebacks(error)
        self._finish(child, ChildState.FAILED)
        self.close()

    def _finish(self, child: Child, outcome: Literal[ChildState.DONE, ChildState.FAILED]) -> None:
        child._outcome = outcome
        child._due = None
        self._children.pop(child, None)
        if child._policy.has_vitals:
            per_loop(self._loop, Vitals).forget(child._history)
        wake_all(child._waiters)

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        # Or a restart does.
        return True


def wake_all(waiters: dict[asyncio.Future[None], None]) -> None:
    for woken in waiters:
        if not woken.done():
            woken.set_result(None)
