"""`supervise`: run a service, and run it again when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from async_plus import events
from async_plus._coroutines import close_unstarted
from async_plus.engine.owned import UnexpectedCancellation, is_exit
from async_plus.stacks import Place, is_user_code
from async_plus.supervision.policy import NEVER_RESTARTED, Policy

__all__ = ["supervise"]

_CREATE_TASK = asyncio.BaseEventLoop.create_task.__code__


async def supervise(
    policy: Policy,
    name: str,
    fn: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Run ``fn(*args, **kwargs)`` by *policy*, each attempt in a task of its own, and return its value."""
    loop = asyncio.get_running_loop()
    host = asyncio.current_task(loop)
    if host is not None and host.cancelling():
        # Supervised in a cleanup, say: its count tells nothing, since a cancellation is still pending.
        #
        #     except CancelledError:
        #         await flush_with_retries()
        #         raise
        host = None
    history = _History(policy, name)
    while True:
        # If the call itself raises, the arguments do not fit, and no restart would help.
        coro = fn(*args, **kwargs)
        history.start(loop.time())
        try:
            task = loop.create_task(coro, name=f"{name}#{history.attempt}")
        except BaseException:
            # A task factory that fails, or SystemExit out of the first step of an eager task.
            close_unstarted(coro)
            raise
        finally:
            del coro
        value: Any = None
        error: BaseException | None = None
        stopped = True
        try:
            try:
                if host is not None:
                    # Whether it was told to stop is known by its count, which is touched by nobody but those who cancel
                    # it. Inline, without the task, a stop could not be told from a failure: on 3.11 and 3.12 a
                    # TaskGroup that fails leaves the count of its task raised (gh-116720).
                    value = await task
                else:
                    stopped = await _outlast(task)
                    value = task.result()
            except BaseException as exc:
                error = exc
                _trim(exc)
            if host is not None:
                stopped = host.cancelling() > 0
            if error is not None and not _is_outcome(error, task):
                # Cancelled when the attempt had just ended, or closed, when we may not wait any more.
                history.interrupted(error, task, loop.time())
                raise error
            if stopped:
                history.stop()
                if error is None:
                    return value
                if is_exit(error):
                    # The loop has raised it already.
                    raise CancelledError
                # The cancellation, or an error of its cleanup: a stop is never followed by a restart.
                raise error
            if error is None:
                delay = history.after_return(loop.time())
                if delay is None:
                    return value
            else:
                if isinstance(error, CancelledError):
                    error = _unexpected(error, name)
                delay = history.after_failure(error, loop.time())
                if delay is None:
                    raise error
        finally:
            # Whatever leads to the attempt: nothing of it may live on through the delay, and the traceback of what
            # is raised here holds this very frame.
            del task, value, error
        try:
            await asyncio.sleep(delay)
        except CancelledError:
            history.stop()
            raise


async def _outlast(task: asyncio.Task[Any]) -> bool:
    """Wait for *task* as ``await task`` does, and return whether the host was cancelled meanwhile.

    For a host whose count tells nothing: by a future of our own, at which each CancelledError is a stop.
    """
    loop = task.get_loop()
    stopped = False
    while not task.done():
        woken = loop.create_future()

        def wake(_: object, woken: asyncio.Future[None] = woken) -> None:
            if not woken.done():
                woken.set_result(None)

        task.add_done_callback(wake)
        try:
            await woken
        except CancelledError as exc:
            if task.done():
                raise
            stopped = True
            task.cancel(*exc.args)
        finally:
            task.remove_done_callback(wake)
    return stopped


def _is_outcome(error: BaseException, task: asyncio.Task[Any]) -> bool:
    """Tell whether *error*, raised by waiting for *task*, is how the task ended."""
    if not task.done():
        return False
    return isinstance(error, CancelledError) if task.cancelled() else error is task.exception()


def _trim(error: BaseException) -> None:
    """Let go of what *error*, just caught in `supervise`, keeps alive beyond the frames of the last attempt.

    A service may raise one and the same exception in each attempt, as a StreamReader does once its connection is
    lost. Python adds to its traceback each time, and so keeps the frames of all attempts.
    """
    tb = error.__traceback__
    frame = None if tb is None else tb.tb_frame
    if tb is not None and tb.tb_next is not None:
        # An eager task that fails in its first step is held by a frame that its exception leads to (gh-128552).
        back = tb.tb_next.tb_frame.f_back
        while back is not None and back is not frame:
            if back.f_code is _CREATE_TASK:  # pragma: >=3.12 cover
                back.clear()
            back = back.f_back
    while tb is not None:
        if tb.tb_next is not None and tb.tb_next.tb_frame is frame:
            tb.tb_next = None
        tb = tb.tb_next


def _unexpected(cancellation: CancelledError, name: str) -> UnexpectedCancellation:
    error = UnexpectedCancellation(f"{name} was cancelled, but not by stopping it")
    error.__cause__ = cancellation
    return error


class _History:
    """What one supervision has seen of its service so far, and how it goes on."""

    __slots__ = ("_last", "_name", "_policy", "_restarts", "_schedule", "_started", "attempt")

    def __init__(self, policy: Policy, name: str) -> None:
        self._policy = policy
        self._name = name
        self._schedule = policy.schedule()
        self._started = 0.0
        # In a row, since the last run that was long enough to show that the service works.
        self._restarts = 0
        # What the last failure was and where it was raised; by names, since a type may lead to an attempt's locals.
        self._last: tuple[str, str, Place | None, Place | None] | None = None
        self.attempt = 0

    def start(self, now: float) -> None:
        """Begin the next attempt."""
        self.attempt += 1
        self._started = now
        if events.wanted(logging.DEBUG):
            events.emit(events.AttemptStarted(service=self._name, attempt=self.attempt))

    def stop(self) -> None:
        """Note that whoever waits for the service was cancelled."""
        if events.wanted(logging.INFO):
            events.emit(events.Stopped(service=self._name, attempt=self.attempt))

    def interrupted(self, interruption: BaseException, task: asyncio.Task[Any], now: float) -> None:
        """Note that *interruption* ends the wait for *task*, whose own end nobody will see."""
        if task.done():
            failure = None if task.cancelled() else task.exception()
            if failure is not None and not isinstance(failure, NEVER_RESTARTED):
                self._report(failure, now - self._started, None, None)
        elif not task.get_loop().is_closed():
            # (Closed it is when the garbage collector finds a host that outlived its loop: nothing can run any more.)
            task.cancel()
        if isinstance(interruption, CancelledError):
            self.stop()

    def after_failure(self, error: BaseException, now: float) -> float | None:
        """Return the delay until the next attempt, or None if *error* is the end of it."""
        ran_for = now - self._started
        answer = self._answer(error)
        if answer is False:
            return None
        if not self._may_restart(ran_for):
            note = f"gave up on {self._name} after {self._restarts} restarts"
            # Not again on an exception that is raised anew each time.
            if note not in getattr(error, "__notes__", ()):
                # A frozen dataclass takes no note.
                with contextlib.suppress(Exception):
                    error.add_note(note)
            self._give_up(ran_for, error)
            return None
        delay = self._schedule.next()
        if answer is not True:
            delay = answer
        self._report(error, ran_for, self._restarts, delay)
        return delay

    def after_return(self, now: float) -> float | None:
        """Return the delay until the next attempt, or None if that return is the end of it."""
        if self._policy.restart != "always":
            return None
        ran_for = now - self._started
        self._last = None
        if not self._may_restart(ran_for):
            self._give_up(ran_for, None)
            return None
        delay = self._schedule.next()
        if events.wanted(logging.INFO):
            events.emit(
                events.AttemptReturned(
                    service=self._name, attempt=self.attempt, ran_for=ran_for, restart=self._restarts, delay=delay
                )
            )
        return delay

    def _answer(self, error: BaseException) -> bool | float:
        try:
            return self._policy.answer(error)
        except Exception as broken:
            # As if raised while handling the failure, which nobody else will tell of.
            if broken is not error and broken.__context__ is None:
                broken.__context__ = error
            raise

    def _may_restart(self, ran_for: float) -> bool:
        if self._policy.is_stable(ran_for):
            self._schedule.reset()
            self._restarts = 0
            self._last = None
        limit = self._policy.max_restarts
        if limit is not None and self._restarts >= limit:
            return False
        self._restarts += 1
        return True

    def _report(self, error: BaseException, ran_for: float, restart: int | None, delay: float | None) -> None:
        raised_at, failed_at = _places(error)
        kind = type(error)
        last, self._last = self._last, (kind.__module__, kind.__qualname__, raised_at, failed_at)
        events.emit(
            events.AttemptFailed(
                service=self._name,
                attempt=self.attempt,
                ran_for=ran_for,
                exception=error,
                failed_at=failed_at,
                repeated=last == self._last,
                restart=restart,
                delay=delay,
            )
        )

    def _give_up(self, ran_for: float, error: BaseException | None) -> None:
        events.emit(
            events.GaveUp(
                service=self._name,
                restarts=self._restarts,
                ran_for=ran_for,
                exception=error,
                failed_at=None if error is None else _places(error)[1],
            )
        )


def _places(error: BaseException) -> tuple[Place | None, Place | None]:
    """Return the line that raised *error*, and the innermost line of user code that led there."""
    raised_at = failed_at = None
    tb = error.__traceback__
    if isinstance(error, UnexpectedCancellation) and error.__cause__ is not None:
        # Nobody raised it. What matters is where the cancellation arrived.
        tb = error.__cause__.__traceback__ or tb
    while tb is not None:
        code = tb.tb_frame.f_code
        raised_at = Place(code.co_filename, tb.tb_lineno, code.co_name)
        if is_user_code(code.co_filename):
            failed_at = raised_at
        tb = tb.tb_next
    return raised_at, failed_at or raised_at
