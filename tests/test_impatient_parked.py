"""`await impatient(...)`: where a long wait is parked, and on what."""

from __future__ import annotations

import asyncio
import threading

import pytest
from places import at, first_line
from tools import forever, futures, messages, start
from waits import fetch, later

from async_plus import impatient, register_waiter, task_scope, try_gather

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


async def sleep():
    await asyncio.sleep(9)


async def queue():
    await asyncio.Queue().get()


async def full_queue():
    queue = asyncio.Queue(maxsize=1)
    queue.put_nowait(1)
    await queue.put(2)


async def lock():
    lock = asyncio.Lock()
    async with lock:
        await lock.acquire()


async def event():
    await asyncio.Event().wait()


async def semaphore():
    await asyncio.Semaphore(0).acquire()


async def condition():
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def task():
    other = asyncio.create_task(forever(), name="other")
    other.set_name("other")
    await other


async def future():
    await asyncio.get_running_loop().create_future()


async def gather():
    children = [asyncio.create_task(forever()) for _ in "ab"]
    for child, name in zip(children, "ab", strict=True):
        child.set_name(name)
    await try_gather(*children)


async def standard_gather():
    children = [asyncio.create_task(forever()) for _ in "ab"]
    for child, name in zip(children, "ab", strict=True):
        child.set_name(name)
    await asyncio.gather(*children)


async def scope():
    async with task_scope(name="crawlers") as scope:
        scope.launch(forever()).set_name("child")
        await scope.wait()


async def scope_exit():
    async with task_scope(name="crawlers", drain=60) as scope:
        scope.launch(forever()).set_name("child")


async def iteration():
    async for _ in generator():
        pass


async def generator():
    yield 1
    await asyncio.Event().wait()
    yield 2


async def timeout():
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


@virtual
class TestParkedAt:
    """Where the wait hangs: the innermost line outside the standard library and async_plus, and the primitive."""

    @pytest.mark.parametrize(
        ("wait", "line", "primitive"),
        [
            (sleep, "asyncio.sleep", "sleep, 4.0 s left"),
            (queue, "asyncio.Queue().get()", "Queue.get"),
            (full_queue, "queue.put(2)", "Queue.put"),
            (lock, "lock.acquire()", "Lock.acquire"),
            (event, "Event().wait()", "Event.wait"),
            (semaphore, "Semaphore(0).acquire()", "Semaphore.acquire"),
            (condition, "condition.wait()", "Condition.wait"),
            (task, "await other", "task 'other'"),
            (future, "create_future()", "Future"),
            (gather, "await try_gather", "try_gather of 'a', 'b'"),
            (standard_gather, "await asyncio.gather", "gather of 'a', 'b'"),
            (scope, "scope.wait()", "task_scope 'crawlers' of 'child'"),
            (scope_exit, "async with", "task_scope 'crawlers' of 'child'"),
            (timeout, "Event().wait()", "Event.wait"),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    async def test_the_line_and_the_primitive_are_named(self, wait, line, primitive, caplog):
        """Read from the frame that is parked, whatever it waits on."""

        async def work():
            await impatient(wait(), log_after=5)

        task = await start(work())
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])

        complaint, end = (text for _, text in messages(caplog))
        where = at(work, "await impatient")
        assert complaint == (
            f"Still waiting for {wait.__name__} after 5.0 s at {where}; parked at {at(wait, line)} on {primitive}"
        )
        assert end == f"{wait.__name__} at {where} was cancelled after 6.0 s"

    async def test_an_async_generator_is_looked_through(self, caplog):
        """Behind `async for` it is the generator's own line that hangs."""
        task = await start(impatient(iteration(), log_after=5))
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])

        assert messages(caplog)[0][1] == (
            f"Still waiting for iteration after 5.0 s at {first_line(iteration)};"
            f" parked at {at(generator, 'Event().wait()')} on Event.wait"
        )

    async def test_a_stream_names_its_peer(self, caplog):
        """Who does not answer is what one wants to know first."""
        hung_up = asyncio.Event()

        async def silent(reader, writer):
            await reader.read()
            writer.close()
            await writer.wait_closed()
            hung_up.set()

        async def ask(host, port):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            task = await start(impatient(ask(host, port), log_after=5, log_completion="never"))
            await asyncio.sleep(6)
            task.cancel()
            await asyncio.wait([task])
            await hung_up.wait()

        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for {ask.__qualname__} after 5.0 s at {first_line(ask)};"
                f" parked at {at(ask, 'readline()')} on StreamReader.readline, peer 127.0.0.1:{port}",
            )
        ]

    async def test_what_stands_around_the_wait_has_no_say(self, caplog):
        """A registered waiter that waits impatiently itself: what it waits for is named, not the waiter."""

        class Pool:
            async def acquire(self):
                await impatient(asyncio.Queue().get(), log_after=5, log_completion="never")

        register_waiter(Pool.acquire, lambda variables: "Pool.acquire")
        task = await start(Pool().acquire())
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])

        where = at(Pool.acquire, "await impatient")
        assert messages(caplog) == [
            ("WARNING", f"Still waiting for Queue.get after 5.0 s at {where}; parked at {where} on Queue.get")
        ]

    async def test_a_thread_is_named_by_what_it_runs(self, caplog, virtual_clock):
        """`to_thread` hides the function; the complaint names it."""
        gate = threading.Event()

        async def compute():
            await asyncio.to_thread(gate.wait)

        task = await start(impatient(compute(), log_after=5, log_completion="never"))
        # Virtual time stands still while a thread is at work, so it must be pushed.
        virtual_clock.jump(virtual_clock.time() + 5)
        while "async_plus" not in {record.name for record in caplog.records}:
            await asyncio.sleep(0)
        gate.set()
        await task

        # In debug mode asyncio speaks of the time pushed.
        assert [record.getMessage() for record in caplog.records if record.name == "async_plus"] == [
            f"Still waiting for {compute.__qualname__} after 5.0 s at {first_line(compute)};"
            f" parked at {at(compute, 'to_thread')} on a thread running Event.wait"
        ]

    async def test_a_wait_that_is_over_but_has_not_run_yet_says_so(self, caplog):
        """Two timers are due in one round. The first brings what is waited for, and the task runs in the next one."""
        [answer] = futures(1)

        async def ask():
            await answer

        later(5, answer.set_result, None)
        await impatient(ask(), log_after=5, log_completion="never")

        [(_, text)] = messages(caplog)
        assert text.endswith(f"; parked at {at(ask, 'await answer')} on nothing, it is ready to run")

    async def test_an_awaitable_that_cannot_be_looked_through_is_named_by_its_type(self, caplog):
        """A class with __await__ that iterates by itself hides what is behind it."""

        class Opaque:
            def __init__(self, future):
                self.future = future

            def __await__(self):
                return self

            def __iter__(self):
                return self

            def __next__(self):
                if self.future.done():
                    raise StopIteration
                self.future._asyncio_future_blocking = True
                return self.future

            send = None

        [gate] = futures(1)

        async def ask():
            await Opaque(gate)

        async def work():
            await impatient(ask(), log_after=5, log_completion="never")

        later(6, gate.set_result, None)
        await work()

        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for {ask.__qualname__} after 5.0 s at {at(work, 'await impatient')};"
                f" parked at {at(ask, 'await Opaque')} on Future",
            )
        ]

    async def test_a_wait_behind_such_an_awaitable_is_placed_as_well_as_can_be(self, caplog):
        """Its own frame is not in sight, so the nearest one that is must do."""

        class Hiding:
            """Steps a coroutine by itself, as some libraries do."""

            def __init__(self, coroutine):
                self.coroutine = coroutine

            def __await__(self):
                return self

            def __iter__(self):
                return self

            def __next__(self):
                return self.coroutine.send(None)

        async def work():
            await Hiding(impatient(fetch(6), log_after=5))

        await work()

        complaint, end = (text for _, text in messages(caplog))
        where = at(work, "await Hiding")
        assert complaint == f"Still waiting for fetch after 5.0 s at {where}; parked at {where} on Future"
        assert end == f"fetch at {where} returned after 6.0 s"
