"""`heartbeat` and `ready`: what a service tells of itself while it runs, and what is done if it falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import FunctionType
from typing import Any, TypeAlias

from async_plus import events, stacks
from async_plus.engine.owned import Owner
from async_plus.engine.per_loop import per_loop

__all__ = ["Hung", "Signs", "Vitals", "heartbeat", "ready"]

_Cancel: TypeAlias = Callable[[asyncio.Task[Any]], None]

# A timer that is this part of the heartbeat late was held up by a blocked loop, which lets nobody beat.
_HELD_UP = 0.1


class Hung(TimeoutError):  # noqa: N818  # it is what the service is
    """A service gave no heartbeat for longer than it had promised.

    Its attempt was cancelled; how that ended is the ``__cause__``.

    It is raised to whoever awaits the service, when that is given up, and an ``except TimeoutError`` or ``except
    OSError`` there catches it. The service itself sees a cancellation. It calls for a restart whatever ``on=`` says.

    .. versionadded:: 1.0
    """


def heartbeat() -> None:
    """Tell that the service lives, for ``@supervised(heartbeat=...)``.

        @supervised(heartbeat=30)
        async def feed(url):
            async for message in subscribe(url):
                heartbeat()

    A service that does not call it for as long as it has promised is reported with the line where it is parked,
    cancelled, and restarted: it failed, with `Hung`.

    It counts for the nearest attempt around the call that declared a heartbeat, and does nothing outside of one. It
    only notes the time, so it may be called as often as you like, and from threads that were started with the context
    of the service, as `asyncio.to_thread` does.

    .. versionadded:: 1.0
    """
    signs = _beating.get()
    if signs is not None:
        signs.beat = signs.clock()


def ready() -> None:
    """Tell that the service is up, for ``@supervised(ready=True)``.

        @supervised(ready=True)
        async def serve():
            server = await asyncio.start_server(handle, port=8080)
            ready()
            await server.serve_forever()

    `Supervisor.start` waits for it, `health` counts the service as ready from then on, and systemd is told that the
    program is ready when all of its services are.

    It counts for the nearest attempt around the call that declared it, and does nothing outside of one. Only the first
    call of an attempt counts. It may be called from threads, as `heartbeat` may.

    .. versionadded:: 1.0
    """
    signs = _starting.get()
    if signs is not None:
        signs.ready_from_anywhere()


class Vitals:
    """The services of one loop that declared a heartbeat or their readiness, and the signs of their last attempts."""

    __slots__ = ("_loop", "_services", "on_ready")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._services: dict[object, Signs] = {}
        # Called whenever a service became ready, or ended.
        self.on_ready: Callable[[], object] | None = None

    def overdue(self) -> bool:
        """Tell whether some heartbeat is overdue."""
        now = self._loop.time()
        return any(signs.is_overdue(now) for signs in self._services.values())

    def unready(self) -> bool:
        """Tell whether some service has declared that it will be ready, and is not, or not again."""
        return any(signs.declares_ready and not signs.is_ready for signs in self._services.values())

    def note(self, service: object, signs: Signs) -> None:
        """Take *signs* for those of *service* from now on."""
        self._services[service] = signs

    def forget(self, service: object) -> None:
        """Strike *service*, which has ended."""
        self._services.pop(service, None)
        self.changed()

    def changed(self) -> None:
        """Say that a service became ready or ended."""
        if self.on_ready is not None:
            self.on_ready()


class Signs:
    """The signs of life of one attempt of a service."""

    __slots__ = (
        "_attempt",
        "_cancel",
        "_due",
        "_heartbeat",
        "_is_over",
        "_loop",
        "_name",
        "_on_ready",
        "_spared",
        "_started",
        "_task",
        "_timer",
        "_vitals",
        "beat",
        "clock",
        "declares_ready",
        "host",
        "hung",
        "is_ready",
    )

    def __init__(
        self,
        service: object,
        name: str,
        attempt: int,
        heartbeat: float | None,
        ready: bool,
        cancel: _Cancel | None = None,
        on_ready: Callable[[], object] | None = None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._name = name
        self._attempt = attempt
        self._heartbeat = heartbeat
        self._cancel: _Cancel = cancel or self._cancel_and_watch
        self._on_ready = on_ready
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When the next beat is due at the latest, and whether it has got more time than that already.
        self._due = 0.0
        self._spared = False
        self._is_over = False
        self.clock = _clock_of(loop)
        self.beat = self._started = loop.time()
        self.hung: Hung | None = None
        # Who awaits the attempt, if its count of cancellations tells that it is being stopped.
        self.host: asyncio.Task[Any] | None = None
        self.declares_ready = ready
        self.is_ready = False
        self._vitals = per_loop(loop, Vitals)
        self._vitals.note(service, self)

    def create_task(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start *coro* in a task whose signs these are."""
        # Without a parameter `context`, which not every task factory takes: a task copies the one it is made in.
        beating = None if self._heartbeat is None else _beating.set(self)
        starting = _starting.set(self) if self.declares_ready else None
        try:
            task = self._loop.create_task(coro, name=name)
        finally:
            if beating is not None:
                _beating.reset(beating)
            if starting is not None:
                _starting.reset(starting)
        if self._heartbeat is not None:
            self._task = task
            self._watch(self.beat + self._heartbeat)
        return task

    def excuse(self) -> None:
        """Ask for no heartbeat any more: the attempt is being stopped, and may take its time for that."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._heartbeat = None

    def end(self) -> Hung | None:
        """Note that the attempt has ended, and return why if it was cancelled for being hung."""
        self.excuse()
        self._task = self.host = None
        self.is_ready = False
        # What outlives the attempt may call `ready` yet.
        self._is_over = True
        hung, self.hung = self.hung, None
        return hung

    def is_overdue(self, now: float) -> bool:
        """Tell whether a beat is missing."""
        return self._heartbeat is not None and now > self.beat + self._heartbeat

    def ready_from_anywhere(self) -> None:
        """Note that the service is up, in a call from any thread."""
        if asyncio._get_running_loop() is self._loop:
            self._become_ready()
            return
        try:
            self._loop.call_soon_threadsafe(self._become_ready)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits any more

    def _become_ready(self) -> None:
        if self.is_ready or self._is_over:
            return
        self.is_ready = True
        after = self._loop.time() - self._started
        events.emit(events.AttemptReady(service=self._name, attempt=self._attempt, after=after))
        if self._on_ready is not None:
            self._on_ready()
        self._vitals.changed()

    def _watch(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._check)

    def _check(self) -> None:
        if self._heartbeat is None or self._task is None or self._task.done():
            return  # it ended in this very turn of the loop
        if self.host is not None and self.host.cancelling():
            self.excuse()
            return
        now = self._loop.time()
        due = self.beat + self._heartbeat
        late = now - self._due
        if due > now:
            self._spared = False
            self._watch(due)
        elif late > self._heartbeat * _HELD_UP and not self._spared:
            # The loop was blocked, or the whole process stopped. Who could not run could not beat, and gets that time
            # once more:
            #
            #     time.sleep(60)      # in another task
            self._spared = True
            self._watch(now + min(late, self._heartbeat))
        else:
            self._report_hung(self._task, now - self.beat)

    def _report_hung(self, task: asyncio.Task[Any], silent_for: float) -> None:
        parked = stacks.parked(task)
        self.hung = Hung(f"{self._name} gave no heartbeat for {silent_for:.1f} s, parked {parked}")
        try:
            events.emit(
                events.AttemptHung(service=self._name, attempt=self._attempt, silent_for=silent_for, parked=parked)
            )
        finally:
            self._cancel(task)

    def _cancel_and_watch(self, task: asyncio.Task[Any]) -> None:
        _Hanging(self._loop, f"@supervised {self._name}").cancel(task)


class _Hanging(Owner[None]):
    """The task of a hung attempt, which is cancelled and, if it ignores that, named in the log."""

    __slots__ = ()

    def cancel(self, task: asyncio.Task[Any]) -> None:
        self._adopt(task, None)
        self._cancel()

    def _on_done(self, task: Any) -> None:
        del self._live[task]
        self._forget(task)

    def _reports(self, task: asyncio.Future[Any]) -> bool:
        # Whoever supervises it does.
        return True


def _clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return a clock that agrees with ``loop.time()``, and goes on while a step of the loop takes long.

    That of uvloop stands still in the meantime, and while the loop sleeps: a beat from a thread would be dated back.
    """
    if isinstance(type(loop).time, FunctionType):
        return loop.time
    ahead = loop.time() - time.monotonic()
    return lambda: time.monotonic() + ahead


# The nearest attempts around that have declared the one and the other.
_beating: ContextVar[Signs | None] = ContextVar("async_plus_beating", default=None)
_starting: ContextVar[Signs | None] = ContextVar("async_plus_starting", default=None)
