"""`result_of`: await a future of an executor or a cluster, and own what runs there."""

from __future__ import annotations

import asyncio
import inspect
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from async_plus import _checks, events, stacks
from async_plus._coroutines import close_unstarted, mark_coroutine_function
from async_plus.engine.owned import UnexpectedCancellation, is_exit
from async_plus.engine.watch import launch_watched

__all__ = ["ForeignFuture", "result_of"]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

_METHODS = ("add_done_callback", "cancel", "cancelled", "done", "exception", "result")


class ForeignFuture(Protocol[_T_co]):
    """A future as `concurrent.futures` has it. Other libraries have the like.

    Where the future can itself be awaited, as those of Dask can, these methods may return awaitables: those of a client
    that runs in this very loop do. What they raise or return is then what comes of awaiting that.
    """

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Have *fn* called in any thread, with the future, when it is done."""

    def cancel(self) -> object:
        """Ask for its end. Whether that is granted is told by how it ends."""

    def cancelled(self) -> bool:
        """Tell whether it ended by being cancelled."""
        ...

    def done(self) -> bool:
        """Tell whether it has ended."""
        ...

    def exception(self) -> object:
        """Return what it failed with, or None."""

    def result(self) -> _T_co:
        """Return its result, or raise what it failed with."""
        ...


class _Given:
    """The future given to a call of ours, cancelled with that if it never starts.

    Without it, nobody would own what runs there:

        task = create_task(result_of(pool.submit(crawl)))
        task.cancel()        # result_of never runs a line, and crawl goes on
    """

    __slots__ = ("future",)

    def __init__(self, future: ForeignFuture[Any]) -> None:
        # Taken away by whoever takes it over.
        self.future: ForeignFuture[Any] | None = future

    def __del__(self) -> None:
        if self.future is not None and not self.future.done():
            _cancel(self.future)


class _Wait:
    """One wait for a foreign future. It does not refer to it, since the future keeps its callbacks."""

    __slots__ = ("_answer", "_loop", "_wakeup")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wakeup: asyncio.Future[None] | None = None
        # What comes of its cancellation, where that has to be awaited.
        self._answer: asyncio.Task[None] | None = None

    async def until_done(
        self,
        future: ForeignFuture[Any],
        fetch: asyncio.Future[Any] | None = None,
        outer: CancelledError | None = None,
    ) -> CancelledError | None:
        """Wait until *future* is done, or *fetch*, which gets its result. Cancel it if the host is cancelled, once.

        Args:
            outer: The first cancellation of the host, if that came before. Nothing is cancelled then.

        Returns:
            The first cancellation of the host.
        """
        try:
            if fetch is None:
                future.add_done_callback(self._on_done)
            else:
                fetch.add_done_callback(self._wake)
            while not (future if fetch is None else fetch).done() or not (self._answer is None or self._answer.done()):
                self._wakeup = self._loop.create_future()
                try:
                    await self._wakeup
                except CancelledError as exc:
                    if outer is None:
                        outer = exc
                        self._cancel(future, fetch)
                except BaseException:
                    # GeneratorExit: the host was closed while it waited here. Awaiting again would be an error.
                    self._cancel(future, fetch)
                    raise
            return outer
        finally:
            self._wakeup = self._answer = None
            # The traceback of a cancellation holds this frame, as that of a failure may hold the future.
            del outer, future, fetch

    def _cancel(self, future: ForeignFuture[Any], fetch: asyncio.Future[Any] | None) -> None:
        # A result that is there is left there, where Dask would throw it away. One that was lost together with the
        # worker that had it is being computed again.
        if not future.done():
            self._answer = _cancel(future)
            if self._answer is not None:
                self._answer.add_done_callback(self._wake)
        elif fetch is not None:
            fetch.cancel()

    def _on_done(self, _: object) -> None:
        # In any thread, at any time.
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits any more

    def _wake(self, _: object = None) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


def _cancel(future: ForeignFuture[Any]) -> asyncio.Task[None] | None:
    """Cancel *future*. Return what is still to come of that, if there is an event loop to wait for it."""
    name = _name(future)
    try:
        answer = future.cancel()
    except (CancelledError, Exception) as exc:
        # asyncio's own CancelledError would pass for that of the host.
        _lose(name, exc)
        return None
    if not inspect.isawaitable(answer):
        return None
    if asyncio._get_running_loop() is None:
        # Given up by the garbage collector, after the end of the loop or in another thread.
        close_unstarted(answer)
        return None
    return launch_watched(_await(answer), f"cancellation of {name}", lambda _, exc: _lose(name, exc))


async def _await(answer: Awaitable[object]) -> None:
    await answer


def _lose(name: str, exc: BaseException) -> None:
    """Log *exc*, which cannot be raised any more. The end of a worker is none: Ctrl-C goes to each process."""
    if not is_exit(exc):
        events.emit(events.LateFailure(task=name, owner="result_of", exception=exc))


async def _lose_error_of(future: ForeignFuture[Any], fetch: asyncio.Future[Any] | None, outer: CancelledError) -> None:
    """Log what *future* failed with, or what *fetch* did, if there is one, for a host that *outer* has cancelled."""
    error: Any = None
    asked: Any = None
    try:
        if fetch is not None:
            error = None if fetch.cancelled() else fetch.exception()
        elif not future.cancelled():
            error = future.exception()
            if _is_awaitable(future, error):
                # In a task of its own, since the host may be cancelled again.
                asked = asyncio.ensure_future(error)
                await _Wait(asked.get_loop()).until_done(future, asked, outer)
                error = asked.result()
    except (CancelledError, Exception) as exc:
        error = exc
    try:
        if error is not None and not future.cancelled():
            _lose(_name(future), error)
    finally:
        del error, asked, future, fetch, outer


async def _result_of(given: _Given) -> Any:
    future: Any = given.future
    given.future = None
    fetch: Any = None
    outer: CancelledError | None = None
    try:
        loop = asyncio.get_running_loop()
        if not future.done():
            outer = await _Wait(loop).until_done(future)
        if outer is None:
            result = future.result()
            if not _is_awaitable(future, result):
                return result
            # In a task of its own, since a CancelledError may come out of it that is none of the host's.
            fetch = asyncio.ensure_future(result, loop=loop)
            outer = await _Wait(loop).until_done(future, fetch)
            if outer is None:
                return fetch.result()
        await _lose_error_of(future, fetch, outer)
        raise outer
    except (CancelledError, Exception) as exc:
        # It was cancelled, or what ran there raised asyncio's own CancelledError, which would pass for ours.
        if exc is outer or not (isinstance(exc, CancelledError) or future.cancelled()):
            raise
        raise UnexpectedCancellation(f"the {_name(future)} was cancelled while result_of waited for it") from exc
    finally:
        # The traceback of a failure holds this frame, and these hold the failure.
        del future, fetch, outer


def _is_awaitable(future: ForeignFuture[Any], answer: Any) -> bool:
    """Tell whether *answer* of a method of *future* is to be awaited.

    Not what runs in a thread and returns a coroutine: that one is its result. The future of a client in this loop can
    be awaited itself.
    """
    return hasattr(type(future), "__await__") and inspect.isawaitable(answer)


def _name(future: object) -> str:
    return f"{type(future).__module__.partition('.')[0]} {stacks.name_of(future)}"


def _waits_on(variables: Any) -> str:
    name = _name(variables["future"])
    return name if variables["outer"] is None else f"{name}, cancelled and still running"


def _check(given: object) -> None:
    future: Any = given
    if isinstance(future, type) or not all(callable(getattr(future, method, None)) for method in _METHODS):
        hint = ""
        if isinstance(future, Awaitable):
            hint = " (await it as it is)"
        elif isinstance(future, Iterable) and not isinstance(future, (str, bytes)):
            hint = " (one each: try_gather(*map(result_of, futures)))"
        raise TypeError(f"future must be one as concurrent.futures has it, got {_checks.kind(given)}{hint}")
    if asyncio.isfuture(future):
        raise TypeError(f"future must not be one of asyncio, got {_checks.kind(future)} (await it as it is)")


@mark_coroutine_function
def result_of(future: ForeignFuture[_T], /) -> Coroutine[Any, Any, _T]:
    """Await a future that is not of this event loop: of an executor, or of a cluster.

        report = await result_of(pool.submit(render, page))

    From the call on the future is owned. When the caller is cancelled, the future is cancelled there, once, and waited
    for until it has ended; then the CancelledError is raised. What runs in a thread or process already cannot be
    stopped by that, so it is waited for: nothing goes on behind your back. (`asyncio.wrap_future` leaves it running,
    and drops its result or its error.) If it ended well all the same, the future has its result:

        future = pool.submit(charge, card)
        try:
            receipt = await result_of(future)
        except asyncio.CancelledError:
            if not future.cancelled():
                keep(future.result())       # too late: it was done
            raise

    An error is raised as it is, or logged if the caller was cancelled before. A coroutine that never starts cancels the
    future too, without waiting for it. (A future of `asyncio.run_coroutine_threadsafe` has ended as soon as it is
    cancelled, when the coroutine in the other loop may still be cleaning up: it is waited for no longer than that.)

    Args:
        future: A `concurrent.futures.Future`, or one that has its methods. Those of Dask do; with a client that is not
            ``asynchronous=True`` they block the event loop, for as long as it takes to fetch the result.

    Returns:
        A coroutine for the result.

    Raises:
        TypeError: *future* is no such future.
        UnexpectedCancellation: It was cancelled by somebody else.

    .. versionadded:: 1.0
    """
    try:
        _check(future)
    except BaseException:
        close_unstarted(future)
        raise
    return _result_of(_Given(future))


_result_of.__name__ = _result_of.__qualname__ = "result_of"

stacks.register_waiter(_Wait.until_done, _waits_on)
