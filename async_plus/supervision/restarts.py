"""`supervise`: run a service, and run it again when it fails."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from typing import Any

from async_plus import stacks
from async_plus._coroutines import close_unstarted
from async_plus.engine.owned import is_exit
from async_plus.engine.per_loop import per_loop
from async_plus.stacks.names import task_name
from async_plus.supervision.history import History, failure_of
from async_plus.supervision.policy import Policy
from async_plus.supervision.vitals import Hung, Signs, Vitals

__all__ = ["SUPERVISE", "restarted_by_supervisor", "supervise"]

# The policy by which a supervisor restarts what runs in this context: the service itself must not do it, too.
restarted_by_supervisor: ContextVar[Policy | None] = ContextVar("async_plus_restarted_by_supervisor", default=None)

_CREATE_TASK = asyncio.BaseEventLoop.create_task.__code__


def supervise(
    policy: Policy,
    name: str,
    fn: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that runs ``fn(*args, **kwargs)`` by *policy*, each attempt in a task of its own."""
    if restarted_by_supervisor.get() is policy:
        # Once: what the service calls in its turn is its own affair.
        restarted_by_supervisor.set(None)
        return fn(*args, **kwargs)
    history = History(policy, name)
    if policy.has_vitals:
        return _with_vitals(policy, name, fn, args, kwargs, history)
    return _supervise(policy, name, fn, args, kwargs, history)


async def _with_vitals(
    policy: Policy,
    name: str,
    fn: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    history: History,
) -> Any:
    vitals = per_loop(asyncio.get_running_loop(), Vitals)
    try:
        return await _supervise(policy, name, fn, args, kwargs, history)
    finally:
        vitals.forget(history)


async def _supervise(
    policy: Policy,
    name: str,
    fn: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    history: History,
) -> Any:
    loop = asyncio.get_running_loop()
    # Whether its count tells of a stop. It does not in a cleanup, say, where a cancellation is still pending:
    #
    #     except CancelledError:
    #         await flush_with_retries()
    #         raise
    #
    # (The host itself is looked up each time: the CancelledError that it ends in leads to this frame, which must not
    # lead back.)
    host = asyncio.current_task(loop)
    counts = host is not None and not host.cancelling()
    host = None
    signs: Signs | None = None
    hung: Hung | None = None
    while True:
        # If the call itself raises, the arguments do not fit, and no restart would help.
        coro = fn(*args, **kwargs)
        try:
            history.start(loop.time())
            if policy.has_vitals:
                signs = Signs(history, name, history.attempt, policy.heartbeat, policy.ready)
                signs.host = asyncio.current_task(loop) if counts else None
                task = signs.create_task(coro, f"{name}#{history.attempt}")
            else:
                task = loop.create_task(coro, name=f"{name}#{history.attempt}")
        except BaseException:
            # A task factory that fails, or SystemExit out of the first step of an eager task or of a subscriber.
            close_unstarted(coro)
            raise
        finally:
            del coro
        value: Any = None
        error: BaseException | None = None
        stopped = True
        try:
            try:
                if counts:
                    # Inline, without the task, a stop could not be told from a failure: on 3.11 and 3.12 a TaskGroup
                    # that fails leaves the count of its task raised (gh-116720). That of the host is touched by nobody
                    # but those who cancel it.
                    value = await task
                else:
                    stopped = await _outlast(task, signs)
                    value = task.result()
            except BaseException as exc:
                error = exc
                _trim(exc)
            if signs is not None:
                hung = signs.end()
            if error is not None and not _is_outcome(error, task):
                # Cancelled when the attempt had just ended, or closed, when we may not wait any more.
                history.interrupted(error, task)
                raise error
            if counts:
                host = asyncio.current_task(loop)
                stopped = host is not None and host.cancelling() > 0
            if stopped:
                history.stop()
                if error is None:
                    return value
                if is_exit(error):
                    # The loop has raised it already.
                    raise CancelledError
                # The cancellation, or an error of its cleanup: a stop is never followed by a restart.
                raise error
            error = failure_of(error, hung, name)
            if error is None:
                delay = history.after_return(loop.time())
                if delay is None:
                    return value
            else:
                delay = history.after_failure(error, loop.time())
                if delay is None:
                    raise error
        finally:
            # Whatever leads to the attempt: nothing of it may live on through the delay, and the traceback of what is
            # raised here holds this very frame.
            del task, value, error
            hung = host = None
        try:
            await asyncio.sleep(delay)
        except CancelledError:
            history.stop()
            raise


async def _outlast(task: asyncio.Task[Any], signs: Signs | None) -> bool:
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
            if signs is not None:
                signs.excuse()
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
        while back is not None and back is not frame:  # pragma: >=3.12 cover
            if back.f_code is _CREATE_TASK:
                back.clear()
            back = back.f_back
    while tb is not None:
        if tb.tb_next is not None and tb.tb_next.tb_frame is frame:
            tb.tb_next = None
        tb = tb.tb_next


# Known by its code, a service that is supervised is found in the chain of whoever awaits it.
SUPERVISE = _supervise.__code__

stacks.register_waiter(_outlast, lambda variables: f"task {task_name(variables['task'])}")
stacks.register_children(_outlast, lambda variables: (variables["task"],))
