"""`RetryDelayer`: delays that grow while a service keeps failing, and start over when it has run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import cast

from async_plus import _checks

__all__ = ["DELAYS", "RetryDelayer", "Schedule", "check_delays"]

DELAYS = (0, 1, 10, 60)


def check_delays(delays: object) -> tuple[float, ...]:
    """Return *delays* as a tuple.

    Raises:
        TypeError: It is not an iterable of numbers.
        ValueError: It is empty, or one is negative, NaN or infinite.
    """
    if not isinstance(delays, Iterable) or isinstance(delays, (str, bytes)):
        raise TypeError(f"delays must be an iterable of seconds, got {_checks.kind(delays)}")
    given = cast(Iterable[object], delays)
    checked = tuple(_checks.seconds(f"delays[{index}]", delay) for index, delay in enumerate(given))
    if not checked:
        raise ValueError("delays must not be empty: [0] restarts at once, for ever")
    return checked


class Schedule:
    """A place in a list of delays, of which the last one repeats. Times are in seconds."""

    __slots__ = ("_delays", "_place", "_random_shift")

    def __init__(self, delays: tuple[float, ...], random_shift: float) -> None:
        self._delays = delays
        self._random_shift = random_shift
        self._place = 0

    def next(self) -> float:
        delay = self._delays[min(self._place, len(self._delays) - 1)]
        self._place += 1
        if self._random_shift:
            delay += self._random_shift * random.random()
        return delay

    def reset(self) -> None:
        self._place = 0


class RetryDelayer:
    """Delays between the tries of something that fails, growing while it keeps failing.

        delayer = RetryDelayer([0, 10, 60], random_shift=5)
        while True:
            try:
                await poll()
            except OSError:
                await delayer.sleep()

    Args:
        delays: Seconds, each for one sleep; the last one repeats.
        random_shift: Each delay grows by a random part of these seconds, so that many who failed together do not
            come back together.
        reset_after: When more than these seconds have passed since the previous sleep ended, so that what is tried
            has run, the delays start over. The longest delay by default.

    Raises:
        TypeError: Something is not a number.
        ValueError: *delays* is empty, or a number is negative, NaN or infinite.

    .. versionadded:: 1.0
       `next_delay`.
    """

    def __init__(
        self,
        delays: Iterable[float] = DELAYS,
        random_shift: float = 0,
        reset_after: float | None = None,
    ) -> None:
        self._delays = check_delays(delays)
        self._random_shift = _checks.seconds("random_shift", random_shift)
        self._reset_after = max(self._delays) if reset_after is None else _checks.seconds("reset_after", reset_after)
        self._schedule = Schedule(self._delays, self._random_shift)
        self._slept_until: float | None = None
        self._sleepers = 0

    def __repr__(self) -> str:
        delays = ", ".join(map(_written, self._delays))
        random_shift, reset_after = _written(self._random_shift), _written(self._reset_after)
        return f"<RetryDelayer delays=[{delays}] random_shift={random_shift} reset_after={reset_after}>"

    async def sleep(self) -> None:
        """Sleep for the next delay. Cancelled, it has ended then."""
        loop = asyncio.get_running_loop()
        delay = self._next(loop.time())
        self._sleepers += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._sleepers -= 1
            self._slept_until = loop.time()

    def next_delay(self) -> float:
        """Return the next delay without sleeping, for loops that wait in a way of their own.

        It shares the place in the schedule with `sleep`, and counts as a sleep that ends when the delay is over.

        Raises:
            RuntimeError: No event loop is running, whose clock would tell how long ago the previous sleep ended.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            message = "next_delay() needs a running event loop, whose clock it goes by: call it from a coroutine"
            raise RuntimeError(message) from None
        now = loop.time()
        delay = self._next(now)
        self._slept_until = now + delay
        return delay

    def _next(self, now: float) -> float:
        # Others may share the schedule. While one of them sleeps, nothing has run for long:
        #
        #     await gather(poll_with(delayer), poll_with(delayer))
        slept_until = self._slept_until
        if slept_until is not None and not self._sleepers and now - slept_until > self._reset_after:
            self._schedule.reset()
        return self._schedule.next()

    def reset(self) -> None:
        """Start over with the first delay."""
        self._schedule.reset()


def _written(seconds: float) -> str:
    return f"{seconds:.12g}"
