"""The children of a supervisor: which of them run, are stopped, are started again, and when.

Nothing here is a task of its own. Whatever happens, be it the end of an attempt, a timer, or a call from outside, ends
in `Children.advance`, which does what is due by then: stop one, start one, or set a timer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, Literal, TypeAlias, cast

from async_plus import events, stacks
from async_plus.supervision.attempts import Attempts, parent, wake_all
from async_plus.supervision.child import Child, ChildState
from async_plus.supervision.policy import Policy

__all__ = ["Children", "Strategy"]

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Children(Attempts):
    """The children of one supervisor that are neither done nor failed, in the order in which they start."""

    __slots__ = ("_agenda", "_empty_waiters", "_number", "_strategy", "_timers")

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, strategy: Strategy, warn_after: float) -> None:
        super().__init__(loop, name, warn_after)
        self._strategy = strategy
        self._number = 0
        # What to look at next: a child, or None for all, where the strategy takes them together.
        self._agenda: dict[Child | None, None] = {}
        self._timers: dict[Child | None, asyncio.TimerHandle] = {}
        self._empty_waiters: dict[asyncio.Future[None], None] = {}

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

    def add(self, name: str, policy: Policy, fn: Callable[[], Coroutine[Any, Any, Any]], context: Context) -> Child:
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

    def abandon(self) -> None:
        """Cancel all at once, when nobody may wait for them any more."""
        self._refuse_starts()
        self._cancel()
        if not self._loop.is_closed():
            # Those in their delay have no task whose end would come here.
            self.advance(None)

    def _refuse_starts(self) -> None:
        self._closing = True
        # A delay may last for hours after us.
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

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
                wake_all(self._empty_waiters)

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


def _is_started_by(child: Child, other: Child) -> bool:
    """Tell whether *other* may wait for *child* in its start(): neither would ever be up if that waited for *other*.

    As in::

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
