"""What tasks are parked in, when it is about the way there: coroutines, and look-alikes of other makes."""

from __future__ import annotations

import asyncio


async def queue_forever():
    """Wait for an item that never comes."""
    await asyncio.Queue().get()


async def aloof(future):
    """Wait for *future*."""
    await future


class Compiled:
    """What a Cython coroutine shows of itself, around a coroutine that runs."""

    cr_code = compile("\n" * 11 + "async def fetch(): pass", "app/client.pyx", "exec").co_consts[0]
    cr_await = property(lambda self: self.coroutine)
    cr_running = False

    def __init__(self, coroutine):
        self.coroutine = coroutine
        self.__qualname__ = "Client.fetch"

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.coroutine.send(None)

    def throw(self, error):
        return self.coroutine.throw(error)

    def close(self):
        self.coroutine.close()


class Opaque:
    """An awaitable that is its own iterator, yields a future, and does everything wrong that can be."""

    def __init__(self, future):
        object.__setattr__(self, "future", future)

    def __await__(self):
        return self

    def __next__(self):
        future = object.__getattribute__(self, "future")
        if future.done():
            raise StopIteration
        future._asyncio_future_blocking = True
        return future

    def throw(self, error):
        raise error

    def close(self):
        pass

    def hostile(self, *args):
        raise RuntimeError("a secret")

    __getattr__ = __repr__ = __str__ = __eq__ = __bool__ = __len__ = hostile
    __hash__ = None
    __class__ = property(hostile)
