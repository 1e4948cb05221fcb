"""What the tests of `impatient` share: waits to complain of, and the registers of a loop."""

from __future__ import annotations

import asyncio
import contextlib

from places import at
from tools import fail, give

from async_plus import impatient
from async_plus.engine.long_waits import Register


def later(seconds, callback, *args):
    """Have *callback* called in *seconds*."""
    asyncio.get_running_loop().call_later(seconds, callback, *args)


async def fetch(seconds, outcome=None):
    """Take *seconds*, then raise or return *outcome*."""
    await asyncio.sleep(seconds)
    return await give(outcome) if not isinstance(outcome, BaseException) else await fail(outcome)


async def crawl(seconds=12.3, outcome=None, **options):
    """Fetch, impatiently."""
    return await impatient(fetch(seconds, outcome), **{"log_after": 5} | options)


CRAWL = at(crawl, "await impatient")
FETCH = at(fetch, "asyncio.sleep")


def registers():
    """The registers of the running loop by their gap."""
    return getattr(asyncio.get_running_loop(), "_async_plus_registers", {})


def waiting():
    """How many waits are in each register that has some."""
    return {gap: len(register.waits) for gap, register in registers().items() if register.waits}


class CountingDict(dict):
    """A dict that counts the keys looked at, the ones that an iteration passes included."""

    touched = 0

    def _touch(self):
        self.touched += 1

    def __contains__(self, key):
        self._touch()
        return super().__contains__(key)

    def __getitem__(self, key):
        self._touch()
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self._touch()
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self._touch()
        super().__delitem__(key)

    def pop(self, key, *default):
        self._touch()
        return super().pop(key, *default)

    def _counted(self, iterable):
        for item in iterable:
            self._touch()
            yield item

    def __iter__(self):
        return self._counted(super().__iter__())

    def __reversed__(self):
        return self._counted(super().__reversed__())

    def keys(self):
        return self._counted(super().keys())

    def values(self):
        return self._counted(super().values())

    def items(self):
        return self._counted(super().items())

    def copy(self):
        return type(self)(self.items())


class Counts:
    """What the running loop does for its registers: looks into dicts and at the clock, timers and tasks made."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.timers = []
        self.times = 0
        self.tasks = 0
        self.dicts = []

    @property
    def touched(self):
        return sum(waits.touched for waits in self.dicts)

    def all(self):
        return {"touches": self.touched, "times": self.times, "timers": len(self.timers), "tasks": self.tasks}

    @contextlib.contextmanager
    def counting(self):
        """Count inside the block, in registers that are made there."""
        loop = asyncio.get_running_loop()
        time, call_at, create_task = loop.time, loop.call_at, loop.create_task

        def counted_time():
            self.times += 1
            return time()

        def counted_call_at(when, callback, *args, **options):
            timer = call_at(when, callback, *args, **options)
            if isinstance(getattr(callback, "__self__", None), Register):
                self.timers.append(timer)
            return timer

        def counted_create_task(*args, **options):
            self.tasks += 1
            return create_task(*args, **options)

        class CountedRegister(Register):
            __slots__ = ()

            def __init__(register, home, gap):  # noqa: N805
                super().__init__(home, gap)
                register.waits = CountingDict()
                self.dicts.append(register.waits)

        with self._monkeypatch.context() as patch:
            patch.setattr(loop, "time", counted_time)
            patch.setattr(loop, "call_at", counted_call_at)
            patch.setattr(loop, "create_task", counted_create_task)
            patch.setattr("async_plus.engine.long_waits.Register", CountedRegister)
            yield
