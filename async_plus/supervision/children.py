"""The children of a supervisor: which of them run, are stopped, are started again, and when.

Nothing here is a task of its own. Whatever happens, be it the end of an attempt, a timer, or a call from outside, ends
in `Children.advance`, which does what is due by then: stop one, start one, or set a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any, Literal, TypeAlias, cast

from async_plus import events, stacks
from async_plus._coroutines import close_unstarted
from async_plus.engine.owned import Owner, is_exit
from async_plus.engine.per_loop import per_loop
from async_plus.supervision.child import Child, ChildState
from async_plus.supervision.errors import strip_tracebacks, without_tracebacks
from async_plus.supervision.history import failure_of
from async_plus.supervision.policy import NEVER_RESTARTED, Policy
from async_plus.supervision.restarts import restarted_by_supervisor
from async_plus.supervision.vitals import Signs, Vitals

__all__ = ["Children", "Strategy", "parent"]

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]

# When the host of a supervisor is cancelled together with all tasks, its exit comes within a turn of the loop or two.
# Should it never come, what was cancelled and may be restarted is started again after these seconds at least.
_UNLESS_HOST_ENDS = 1.0

# The child whose attempt runs in this context.
parent: ContextVar[Child | None] = ContextVar("async_plus_parent", default=None)


class Children(Owner[Child]):
    """The children of one supervisor that are neither done nor failed, in the order in which they start."""

    __slots__ = (
        "_agenda",
        "_children",
        "_closing",
        "_empty_waiters",
        "_host",
        "_host_count",
        "_is_busy",
        "_name",
        "_number",
        "_stopping",
        "_strategy",
        "_timers",
        "failure",
        "is_failure_raised",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, strategy: Strategy, warn_after: float) -> None:
        super().__init__(loop, f"supervisor {name!r}", warn_after)
        self._name = name
        self._strategy = strategy
        self._children: dict[Child, None] = {}
        self._number = 0
        self._closing = False
        self._stopping: set[Child] = set()
        # What to look at next: a child, or None for all, where the strategy takes them together.
        self._agenda: dict[Child | None, None] = {}
        self._is_busy = False
        self._timers: dict[Child | None, asyncio.TimerHandle] = {}
        self._empty_waiters: dict[asyncio.Future[None], None] = {}
        # The error of the child that was given up, with its name.
        self.failure: tuple[str, BaseException] | None = None
        self.is_failure_raised = False
        self._host = asyncio.current_task(loop)
        self._host_count = 0
        self.note_host()

    # What is asked from outside.

    def all(self) -> tuple[Child, ...]:
        """Return the children, in order."""
        return tuple(self._children)

    def check_loop(self, what: str) -> None:
        """Refuse calls from elsewhere than the supervisor's loop."""
        if asyncio._get_running_loop() is not self._loop:
            raise RuntimeError(f"cannot {what} from outside the loop of supervisor {self._name!r}")

    def check_open(self, what: str) -> None:
        """Refuse calls that come from elsewhere, or too late."""
        self.check_loop(what)
        if self.failure is not None:
            name, error = self.failure
            raise RuntimeError(f"cannot {what}: supervisor {self._name!r} gave up on {name!r}") from error
        if self._closing:
            raise RuntimeError(f"cannot {what}: the block of supervisor {self._name!r} has ended")

    def note_host(self) -> None:
        """Take note of how often the host has been cancelled, when it evidently goes on in spite of it."""
        if self._host is not None and self._host is asyncio.current_task(self._loop):
            self._host_count = self._host.cancelling()

    def add(
        self, name: str, policy: Policy, fn: Callable[[], Coroutine[Any, Any, Any]], context: Context
    ) -> Child:
        """Add a child and start it as soon as it may be; `until_up` then waits for it."""
        self._number += 1
        child = Child(self, self._number, name, policy, fn, context)
        self._children[child] = None
        self.advance(child)
        return child

    def restart(self, child: Child) -> None:
        """Have *child* started again at once."""
        if child._outcome is not None:
            child._outcome = None
            child._is_first, child._was_up = True, False
            self._children[child] = None
            self._children = dict.fromkeys(sorted(self._children, key=lambda child: child._number))
        if child._is_spawned:  # pragma: >=3.12 cover
            child._to_stop = True
        elif child._task is not None and not child._is_told:
            self._stop(child)
        for other in self._group_of(child):
            # Those that it would have to wait for skip their delays with it.
            waits = other._due is not None and (self._strategy == "one_for_all" or other._number < child._number)
            if other is child or waits:
                other._due = -math.inf
        child._is_up = False
        self.advance(child)

    def stop(self, child: Child) -> None:
        """Have *child* stopped, without regard to whose turn it is: whoever asks may hold up the others."""
        if child._outcome is not None:
            return
        child._due = None
        if child._task is not None:
            if not child._is_told:
                self._stop(child)
        elif child._is_spawned:  # pragma: >=3.12 cover
            child._to_stop = True
        else:
            self._finish(child, ChildState.DONE)
        self.advance(child)

    def close(self) -> None:
        """Stop all, in reverse and one at a time, and start none any more."""
        self._refuse_starts()
        self.advance(None)

    # Waits. Each has a future of its own, so a CancelledError always means the caller.

    async def until_up(self, child: Child) -> None:
        """Wait until *child* is ready, or has ended.

        Raises:
            BaseException: What refused its first start; or a child was given up in the meantime: its own error, when
                all have stopped.
        """
        while not child._is_up and child._outcome is None:
            await self._wait_on(child._waiters)
        refusal, child._refusal = child._refusal, None
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal
        if self.failure is not None:
            await self.until_empty()
            self.raise_failure()

    async def until_ended(self, child: Child) -> None:
        """Wait until *child* is done or failed."""
        while child._outcome is None:
            await self._wait_on(child._waiters)

    async def until_empty(self) -> None:
        """Wait until all are done or failed."""
        while self._children:
            await self._wait_on(self._empty_waiters)

    async def _wait_on(self, waiters: dict[asyncio.Future[None], None]) -> None:
        woken: asyncio.Future[None] = self._loop.create_future()
        waiters[woken] = None
        try:
            await woken
        except GeneratorExit:
            self._note_closing()
            raise
        finally:
            del waiters[woken]

    async def drain(self) -> CancelledError | None:
        """Stop all and wait until they have ended, however often the host is cancelled.

        Returns:
            The first cancellation of the host that came meanwhile.
        """
        self.close()
        return await self._outlast(self._children)

    def let_host_go(self) -> None:
        """Forget the host, whose task may hold what it ended in."""
        self._host = None

    def abandon(self) -> None:
        """Cancel all at once, when nobody may wait for them any more."""
        self._refuse_starts()
        self._cancel()

    def _refuse_starts(self) -> None:
        self._closing = True
        # A delay may last for hours after us.
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

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

    # What happens by itself.

    def advance(self, child: Child | None) -> None:
        """Do what is due for *child*, and for those that the strategy has to do with it."""
        self._agenda[child if self._strategy == "one_for_one" else None] = None
        # An eager attempt may call us in its first step, so from within.
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._agenda:
                key, _ = self._agenda.popitem()
                if self._closing:
                    self._advance_end()
                else:
                    self._advance_group(key)
        finally:
            self._is_busy = False
            if self._agenda:
                # SystemExit comes out of the first step of an eager attempt, say. The rest is stopped all the same.
                self._agenda.clear()
                self._loop.call_soon(self.advance, None)
            if not self._children:
                self._wake()
                _wake_all(self._empty_waiters)

    def _advance_end(self) -> None:
        while self._children and not self._stopping:
            last = next(reversed(self._children))
            if last._task is None:
                self._finish(last, ChildState.DONE)
            else:
                self._stop(last)

    def _advance_group(self, key: Child | None) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        group = self.all() if key is None else (key,)
        # Stops go before starts, one at a time, the last one first.
        if any(child._is_told for child in group):
            return
        for child in reversed(group):
            if child._to_stop and child._task is not None:
                self._stop(child)
                return
        starting: list[Child] = []
        for child in group:
            if key in self._agenda or child._outcome is not None:
                # The one before has changed something in its first step.
                return
            if child._task is None:
                if not child._is_first and not all(_is_started_by(child, other) for other in starting):
                    continue
                due = self._due_of(child, group)
                if due > self._loop.time():
                    self._timers[key] = self._loop.call_at(due, self.advance, child)
                    return
                self._spawn(child)
            if not child._is_up:
                starting.append(child)

    def _due_of(self, child: Child, group: Sequence[Child]) -> float:
        # The delay of one that failed is waited for by all that start again with it. Under rest_for_one these come
        # after it anyway.
        if self._strategy == "one_for_all":
            return max(other._due for other in group if other._due is not None)
        return cast(float, child._due)

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
            _wake_all(child._waiters)

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
        _wake_all(child._waiters)
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

    def _restart_siblings(self, child: Child) -> None:
        running = [
            other
            for other in self._group_of(child)
            if other._task is not None
            and not other._is_told
            and (self._strategy == "one_for_all" or other._number > child._number)
        ]
        if not running:
            return
        for other in running:
            other._to_stop = True
            # Of its own, since the failed one may be gone by then: stopped, say, with a start() that was cancelled.
            other._due = child._due
        names = tuple(other.name for other in running)
        if events.wanted(logging.INFO):
            events.emit(
                events.SiblingsRestarted(
                    supervisor=self._name, strategy=self._strategy, child=child.name, siblings=names
                )
            )

    def _group_of(self, child: Child) -> tuple[Child, ...]:
        return (child,) if self._strategy == "one_for_one" else self.all()

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
        _wake_all(child._waiters)

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        # Or a restart does.
        return True


def _is_started_by(child: Child, other: Child) -> bool:
    """Tell whether *other* may wait for *child* in its start(): neither would ever be up if that waited for *other*.

        async def pool():
            await sup.start(connection)     # fails, and is restarted, before it is ready
            ready()
    """
    if child._was_up:
        return False
    starter = child._context.get(parent)
    while starter is not None and starter is not other:
        starter = starter._context.get(parent)
    return starter is other


def _wake_all(waiters: dict[asyncio.Future[None], None]) -> None:
    for woken in waiters:
        if not woken.done():
            woken.set_result(None)


# Whoever waits for a supervisor is parked on a private future, which says nothing.
def _waited_on(variables: Mapping[str, Any]) -> str:
    return str(variables["self"]._waited_on())


def _child_waited_for(variables: Mapping[str, Any]) -> tuple[asyncio.Future[Any], ...]:
    task = variables["child"]._task
    return () if task is None else (task,)


for _wait in (Children.until_empty, Children.until_up, Children.until_ended):
    stacks.register_waiter(_wait, _waited_on)
stacks.register_children(Children.until_empty, lambda variables: tuple(variables["self"]._live))
# A child may start or stop another one, and is not waited for itself.
stacks.register_children(Children.until_up, _child_waited_for)
stacks.register_children(Children.until_ended, _child_waited_for)
del _wait
