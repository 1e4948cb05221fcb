"""Services to supervise, and ways to await them."""

from __future__ import annotations

import asyncio

from tools import Boom, elapsed, forever

from async_plus import ready, supervised


class Scripted:
    """A service that does one step of its script each time it is started, and notes when that was.

    A step is an exception to raise or a value to return, at once or, in a tuple, after so many seconds. The last step
    is done again and again. For the virtual clock.
    """

    def __init__(self, *steps):
        self.steps = list(steps)
        self.started = []

    async def run(self):
        loop = asyncio.get_running_loop()
        self.started.append(loop.clock.elapsed)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        seconds, outcome = step if isinstance(step, tuple) else (0, step)
        if seconds:
            await asyncio.sleep(seconds)
        return raise_or_return(outcome)


def raise_or_return(outcome):
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def run(script, **options):
    """Run *script* under supervision, and return its value or the exception that it ended in."""
    try:
        return await supervised(**{"name": "feed", **options})(script.run)()
    except Exception as exc:
        return exc


class Diary:
    """What happened to the services that `service` makes, and when."""

    def __init__(self):
        self.lines = []

    def __call__(self, name, what):
        self.lines.append((elapsed(), name, what))

    def since(self, when):
        return [(name, what) for then, name, what in self.lines if then >= when]

    def service(self, name, *, fails=(), ready_after=None, stop_takes=0, **options):
        """Make a supervised service. Its n-th attempt fails after ``fails[n]`` seconds; later ones run for ever."""
        left = list(fails)

        @supervised(**{"name": name, "ready": ready_after is not None, "delays": [5]} | options)
        async def run():
            self(name, "starts")
            try:
                if ready_after is not None:
                    await asyncio.sleep(ready_after)
                    self(name, "is ready")
                    ready()
                if left:
                    seconds = left.pop(0)
                    await asyncio.sleep(seconds)
                    self(name, "fails")
                    raise Boom(name)
                await forever()
            except asyncio.CancelledError:
                self(name, "is told")
                await asyncio.sleep(stop_takes)
                self(name, "stops")
                raise

        return run


class Service:
    """A service that waits for orders, and notes what it gets."""

    def __init__(self):
        self.tasks = []
        self.cancellations = []
        self.order = None

    async def __call__(self):
        self.tasks.append(asyncio.current_task())
        while True:
            self.order = asyncio.get_running_loop().create_future()
            try:
                return await self.order
            except asyncio.CancelledError as exc:
                self.cancellations.append(exc.args)
                if not self.goes_on():
                    raise

    def goes_on(self):
        return False


class Stubborn(Service):
    """It swallows its cancellations."""

    def goes_on(self):
        return True


def feed(service, **options):
    """Supervise *service* under the name of feed, with a delay that is too long to be over in a test."""
    return supervised(**{"delays": [600], "name": "feed", **options})(service)


async def plainly(service):
    """Await *service* as usual: the count of the host tells a stop."""
    return await service()


async def in_cleanup(service):
    """Await *service* where a cancellation is pending, as in a cleanup: the count of the host tells nothing."""
    asyncio.current_task().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return await service()


async def end_of(host):
    """Wait for the task *host*, and return its value, or the exception it ended in."""
    await asyncio.wait([host])
    if host.cancelled():
        return "cancelled"
    return host.exception() or host.result()


def told(caplog):
    """The level and text of each record of ours so far."""
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "async_plus"]
