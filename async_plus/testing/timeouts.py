"""What all tasks are doing when a test runs out of time."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable, Generator, Iterator
from types import FrameType
from typing import Any

import pytest

from async_plus.testing.items import coroutine_test

__all__ = ["keep_snapshot", "look_before_alarm", "snapshot_on_timeout", "take_section"]

_snapshot = pytest.StashKey[str]()

# Of an exception, for its text.
_KEPT = "_async_plus_snapshot"

# What asyncio.timeout has the loop call when the time is up.
_ON_TIMEOUT = "_on_timeout"


@pytest.fixture
def snapshot_on_timeout(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show with a test that fails because its time is up what all tasks were doing then, as `snapshot` tells it.

    That is: a TimeoutError comes out of the test, or pytest-timeout ends it by a signal. The look is taken before
    `asyncio.timeout` cancels anything in the test's own task (`asyncio.wait_for` too, from Python 3.12 on), otherwise
    when the error comes out of the test.

    .. versionadded:: 1.0
    """
    with pytest.MonkeyPatch.context() as patch:
        if target := coroutine_test(request.node):
            look = _Look(request.node)
            patch.setattr(*target, look.around(getattr(*target)))
            patch.setattr(asyncio.Timeout, _ON_TIMEOUT, look.before(getattr(asyncio.Timeout, _ON_TIMEOUT)))
        yield


class _Look:
    """The last look at the tasks of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._task: asyncio.Task[Any] | None = None
        self._timeout: object = None
        self._text = ""

    def around(self, test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(test)
        async def looked_at(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            if asyncio._get_running_loop() is None:  # on trio
                await test(*args, **kwargs)
                return
            self._task = asyncio.current_task()
            try:
                await test(*args, **kwargs)
            except TimeoutError as exc:
                seen_before = self._timeout is not None and _is_raised_by(self._timeout, exc)
                self._item.stash[_snapshot] = self._text if seen_before else _now()
                raise
            finally:
                self._task = self._timeout = None

        return looked_at

    def before(self, on_timeout: Callable[[asyncio.Timeout], None]) -> Callable[[asyncio.Timeout], None]:
        # What hangs is cancelled by it, and can no longer be seen when the error comes out of the test.
        def look_first(timeout: asyncio.Timeout) -> None:
            if getattr(timeout, "_task", None) is self._task:
                self._timeout, self._text = timeout, _now()
            on_timeout(timeout)

        return look_first


def _is_raised_by(timeout: object, exc: BaseException) -> bool:
    """Tell whether *timeout* has raised *exc* when its block was left. There may have been others since it fired."""
    traceback = exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_locals.get("self") is timeout:
            return True
        traceback = traceback.tb_next
    return False


def _now(loop: asyncio.AbstractEventLoop | None = None) -> str:
    # Only here: most test runs never need it.
    from async_plus.diagnostics.snapshot import snapshot

    return str(snapshot(loop))


def keep_snapshot(exc: BaseException, loop: asyncio.AbstractEventLoop) -> None:
    """Keep with *exc* what the tasks of *loop* are doing, for the report of the test that fails by it."""
    vars(exc)[_KEPT] = _now(loop)


def look_before_alarm(item: pytest.Item) -> Generator[None, object, object]:
    """Have the signal by which pytest-timeout ends *item* look at the tasks first, if the test asks for it."""
    before = _alarm()
    result = yield
    alarm = _alarm()
    # With the method "thread" it is still the user's own.
    if alarm is not before and callable(alarm) and "snapshot_on_timeout" in getattr(item, "fixturenames", ()):
        end = alarm

        def look_and_end(signum: int, frame: FrameType | None) -> None:
            __tracebackhide__ = True
            if asyncio._get_running_loop() is not None:
                item.stash[_snapshot] = _now()
            end(signum, frame)

        signal.signal(signal.SIGALRM, look_and_end)
    return result


def _alarm() -> object:
    return signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None


def take_section(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException] | None) -> str:
    """Return what the tasks were doing when *item* failed because its time was up, "" if it was not, and forget it."""
    kept = None if excinfo is None else vars(excinfo.value).get(_KEPT)
    # Whether it is shown or not: what fails later in the same test, or when it is run once more, is something else.
    seen, item.stash[_snapshot] = item.stash.get(_snapshot, ""), ""
    return kept or seen
