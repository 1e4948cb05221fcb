"""Who gets the events: subscribers, of which logging is the first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from types import CoroutineType, TracebackType
from typing import Any, ClassVar, TypeAlias

from async_plus import _checks
from async_plus.events.event import Event, event, one_line
from async_plus.stacks import Place
from async_plus.stacks.names import callable_name

__all__ = ["SubscriberFailed", "emit", "subscribe", "wanted"]

logger = logging.getLogger("async_plus")

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
# Nobody would await the coroutine of an async one. A task runs by itself.
_Subscriber: TypeAlias = Callable[[Event], asyncio.Task[Any] | None]

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


@event
class SubscriberFailed(Event):
    """A subscriber raised. This is reported for its first failure only; it goes on getting events.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "subscriber %s failed with %s on %s; its further failures are not reported"
    level: int = logging.ERROR
    subscriber: str
    event: str
    exception: BaseException

    @property
    def args(self) -> tuple[object, ...]:
        return self.subscriber, type(self.exception).__qualname__, self.event

    @property
    def traced(self) -> BaseException:
        return self.exception


class _Subscription:
    __slots__ = ("callback", "name", "reported")

    def __init__(self, callback: Callable[[Event], object], name: str) -> None:
        self.callback = callback
        self.name = name
        self.reported = False

    def deliver(self, event: Event) -> None:
        try:
            result = self.callback(event)
            if type(result) is CoroutineType:
                # A lambda around an async function: nothing could tell before the call.
                result.close()
                raise TypeError("a subscriber must be synchronous, but it returned a coroutine")
        # Whatever it raises must not reach the code it watches; KeyboardInterrupt and SystemExit must.
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            if not self.reported:
                self.reported = True
                if self is _logging:
                    _print(exc)
                emit(SubscriberFailed(subscriber=self.name, event=type(event).__name__, exception=exc))


def _print(exc: BaseException) -> None:
    # A filter or handler of the user's raised out of logging, so logging is no way to tell of it. Nor is stderr, if
    # the program has none (pythonw) or has closed it.
    with contextlib.suppress(Exception):
        sys.stderr.write("async_plus: logging an event failed:\n" + "".join(traceback.format_exception(exc)))


def subscribe(callback: _Subscriber) -> Callable[[], None]:
    """Have *callback* called with every event from now on, in the thread and task where it happens.

    A callback that raises is reported once, and never breaks what it watches.

    Args:
        callback: Called with one `Event`. It must be synchronous and quick: the loop waits for it.

    Returns:
        A function that ends the subscription. It may be called more than once. Both work from any thread, and
        while an event is being handed out.

    Raises:
        TypeError: *callback* cannot be called, or is async.

    .. versionadded:: 1.0
    """
    _checks.callback("callback", callback, "taking an event")
    subscription = _Subscription(callback, callable_name(callback))
    _subscriptions[subscription] = None

    def unsubscribe() -> None:
        _subscriptions.pop(subscription, None)

    return unsubscribe


def wanted(level: int) -> bool:
    """Tell whether anybody would see an event of *level*, so that a frequent one need not be built for nobody."""
    return len(_subscriptions) > 1 or logger.isEnabledFor(level)


def emit(event: Event) -> None:
    """Hand *event* to every subscriber, logging first."""
    for subscription in tuple(_subscriptions):
        # One that the callbacks before it have ended gets nothing more.
        if subscription in _subscriptions:
            subscription.deliver(event)


def _log(event: Event) -> None:
    if not logger.isEnabledFor(event.level):
        return
    place = event.place or _HERE
    record = logger.makeRecord(
        logger.name,
        event.level,
        place.filename,
        place.lineno,
        event.format,
        one_line(event.args),
        _exc_info(event.traced),
        place.function,
        event.extra,
    )
    logger.handle(record)


def _exc_info(exc: BaseException | None) -> _ExcInfo | None:
    if exc is None:
        return None
    # The story begins in the user's code: the frames through which we called it say nothing.
    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        tb = tb.tb_next
    return type(exc), exc, tb


# Of what happened at no line of the user's.
_HERE = Place.from_code(emit.__code__)

_logging = _Subscription(_log, "logging")
# In the order of subscription. A dict, whose single operations no thread, signal handler or finalizer can interrupt.
_subscriptions: dict[_Subscription, None] = {_logging: None}
