"""What one supervision has seen of its service so far, and how it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import CancelledError
from typing import Any, TypeAlias, cast

from async_plus import events
from async_plus.engine.delayer import Schedule
from async_plus.engine.owned import UnexpectedCancellation
from async_plus.engine.per_loop import per_loop
from async_plus.events.event import count_of
from async_plus.stacks import Place, is_user_code
from async_plus.stacks.names import type_name
from async_plus.supervision.policy import NEVER_RESTARTED, Policy
from async_plus.supervision.tally import Tally
from async_plus.supervision.vitals import Hung

__all__ = ["History", "failure_of"]


def failure_of(error: BaseException | None, hung: Hung | None, name: str) -> BaseException | None:
    """Return what an attempt that nobody stopped failed with, None if it did not.

    Args:
        error: What it raised, None if it returned.
        hung: Why it was cancelled, if it was for being hung.
        name: The name of the service.
    """
    if hung is not None and not isinstance(error, NEVER_RESTARTED):
        hung.__cause__ = error
        return hung
    if isinstance(error, CancelledError):
        unexpected = UnexpectedCancellation(f"{name} was cancelled, but not by stopping it")
        unexpected.__cause__ = error
        return unexpected
    return error


class History:
    """The attempts of one service, its failures in a row, and its place in the delays.

    Args:
        policy: When it is restarted.
        name: Its name in reports.
        reports_end: Whether an error that calls for no restart is reported too: nobody awaits the service.
    """

    __slots__ = (
        "_last",
        "_policy",
        "_reports_end",
        "_restarts",
        "_schedule",
        "attempt",
        "due",
        "failed_with",
        "name",
        "since",
        "started",
    )

    def __init__(self, policy: Policy, name: str, *, reports_end: bool = False) -> None:
        self._policy = policy
        self.name = name
        self._reports_end = reports_end
        self._schedule: Schedule | None = None
        # When the last attempt began; when it ended, if another one is to follow, and until then, when that begins.
        self.started = self.since = 0.0
        self.due: float | None = None
        # In a row, since the last run that was long enough to show that the service works.
        self._restarts = 0
        # What the last failure was and where it was raised; by names, since a type may lead to an attempt's locals.
        self._last: _Likeness | None = None
        self.attempt = 0
        # The type of the last failure, however long ago it was.
        self.failed_with: str | None = None

    def start(self, now: float) -> None:
        """Begin the next attempt."""
        self.attempt += 1
        self.started = now
        self.due = None
        if events.wanted(logging.DEBUG):
            events.emit(events.AttemptStarted(service=self.name, attempt=self.attempt))

    def stop(self) -> None:
        """Note that whoever waits for the service was cancelled."""
        if events.wanted(logging.INFO):
            restart = None if self.due is None else self._restarts
            events.emit(events.Stopped(service=self.name, attempt=self.attempt, restart=restart))

    def interrupted(self, interruption: BaseException, task: asyncio.Task[Any]) -> None:
        """Note that *interruption* ends the wait for *task*, whose own end nobody but us will see."""
        if task.done():
            self._report_unseen(task)
        elif not task.get_loop().is_closed():
            # (Closed it is when the garbage collector finds a host that outlived its loop: nothing can run any more.)
            task.add_done_callback(self._report_unseen)
            task.cancel()
        if isinstance(interruption, CancelledError):
            self.stop()

    def _report_unseen(self, task: asyncio.Task[Any]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, NEVER_RESTARTED):
            self.report_stopped(failure, task.get_loop().time())

    def report_stopped(self, error: BaseException, now: float) -> None:
        """Report *error*, which ended an attempt that is not followed by another one."""
        self._report(error, now - self.started, None, None)

    def after_failure(self, error: BaseException, now: float) -> float | None:
        """Return the delay until the next attempt, or None if *error* is the end of it."""
        ran_for = now - self.started
        answer = self._answer(error)
        if answer is False:
            if self._reports_end and not isinstance(error, NEVER_RESTARTED):
                self._give_up(ran_for, error, restartable=False)
            return None
        # A hung attempt may have been so for long: its time shows nothing.
        if not self._may_restart(0.0 if isinstance(error, Hung) else ran_for):
            note = f"gave up on {self.name} after {count_of(self._restarts, 'restart')}"
            # A frozen dataclass takes no note, and what a class of the user's has for __notes__ may be anything.
            with contextlib.suppress(Exception):
                # Not again on an exception that is raised anew each time.
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
            self._give_up(ran_for, error)
            return None
        delay = self.next_delay()
        if answer is not True:
            delay = answer
        self._wait_for(delay, now)
        self._report(error, ran_for, self._restarts, delay)
        return delay

    def after_return(self, now: float) -> float | None:
        """Return the delay until the next attempt, or None if that return is the end of it."""
        if self._policy.restart != "always":
            return None
        ran_for = now - self.started
        self._last = None
        if not self._may_restart(ran_for):
            self._give_up(ran_for, None)
            return None
        delay = self.next_delay()
        self._wait_for(delay, now)
        if events.wanted(logging.INFO):
            events.emit(
                events.AttemptReturned(
                    service=self.name, attempt=self.attempt, ran_for=ran_for, restart=self._restarts, delay=delay
                )
            )
        return delay

    def next_delay(self) -> float:
        """Return the next delay of the schedule."""
        if self._schedule is None:
            # Most services that succeed never need one.
            self._schedule = self._policy.schedule()
        return self._schedule.next()

    def _wait_for(self, delay: float, now: float) -> None:
        per_loop(asyncio.get_running_loop(), Tally).count(self.name)
        self.since = now
        self.due = now + delay

    def _answer(self, error: BaseException) -> bool | float:
        try:
            return self._policy.answer(error)
        except Exception as broken:
            # As if raised while handling the failure, which nobody else will tell of.
            if broken is not error and broken.__context__ is None:
                # Not by the attribute, which a frozen dataclass refuses to set.
                BaseException.__setattr__(broken, "__context__", error)
            raise

    def _may_restart(self, ran_for: float) -> bool:
        if self._policy.is_stable(ran_for):
            self._schedule = None
            self._restarts = 0
            self._last = None
        limit = self._policy.max_restarts
        if limit is not None and self._restarts >= limit:
            return False
        self._restarts += 1
        return True

    def _report(self, error: BaseException, ran_for: float, restart: int | None, delay: float | None) -> None:
        places = _places(error)
        self.failed_with = type_name(error)
        last, self._last = self._last, _likeness(error, places)
        events.emit(
            events.AttemptFailed(
                service=self.name,
                attempt=self.attempt,
                ran_for=ran_for,
                exception=error,
                failed_at=places[1],
                repeated=last == self._last,
                restart=restart,
                delay=delay,
            )
        )

    def _give_up(self, ran_for: float, error: BaseException | None, *, restartable: bool = True) -> None:
        events.emit(
            events.GaveUp(
                service=self.name,
                restarts=self._restarts,
                ran_for=ran_for,
                exception=error,
                failed_at=None if error is None else _places(error)[1],
                restartable=restartable,
            )
        )


# Its types and places, and of a group, those of all that is in it.
_Likeness: TypeAlias = tuple[str | Place | None, ...]


def _likeness(error: BaseException, places: tuple[Place | None, Place | None]) -> _Likeness:
    """Say what makes a failure, which led through *places*, the same as another one."""
    kind = type(error)
    alike: _Likeness = (kind.__module__, kind.__qualname__, *places)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for inner in group.exceptions:
            alike += _likeness(inner, _places(inner))
    return alike


def _places(error: BaseException) -> tuple[Place | None, Place | None]:
    """Return the line that raised *error*, and the innermost line of user code that led there."""
    raised_at = failed_at = None
    tb = error.__traceback__
    if isinstance(error, (UnexpectedCancellation, Hung)) and error.__cause__ is not None:
        # Nobody raised it. What matters is where the cancellation arrived.
        tb = error.__cause__.__traceback__ or tb
    while tb is not None:
        code = tb.tb_frame.f_code
        raised_at = Place(code.co_filename, tb.tb_lineno, code.co_name)
        if is_user_code(code.co_filename):
            failed_at = raised_at
        tb = tb.tb_next
    return raised_at, failed_at or raised_at
