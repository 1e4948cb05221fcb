"""On what is this task parked, in words. (Where: test_stacks.py.)"""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
import threading

import pytest
from tools import turns

from async_plus import stacks
from async_plus.stacks import parked, waiting_for

pytestmark = pytest.mark.usefixtures("own_waiters")


async def forever():
    await asyncio.Event().wait()


class TestSleep:
    @pytest.mark.virtual_time
    async def test_a_sleep_tells_how_long_it_still_lasts(self, start):
        """Counted down by the loop's clock, never below zero."""
        task = await start(asyncio.sleep(20))
        await asyncio.sleep(7.7)
        assert parked(task).on == "sleep, 12.3 s left"

        timer = task.get_coro().cr_frame.f_locals["h"]
        asyncio.get_running_loop().time = lambda: timer.when() + 1
        assert parked(task).on == "sleep, 0.0 s left"
        del asyncio.get_running_loop().time


class TestPrimitives:
    @pytest.mark.parametrize("kind", [asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue])
    async def test_queues_are_named_by_their_own_type(self, start, kind):
        """Which end of the queue is stuck is told as well, and what is in it is not."""
        empty, full = kind(), kind(maxsize=1)
        full.put_nowait("a secret")

        assert parked(await start(empty.get())).on == f"{kind.__name__}.get"
        assert parked(await start(full.put("a secret"))).on == f"{kind.__name__}.put"
        assert parked(await start(full.join())).on == f"{kind.__name__}.join"

    @pytest.mark.parametrize("kind", [asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore])
    async def test_locks_and_semaphores_are_named_by_their_own_type(self, start, kind):
        """However they are entered."""
        lock = kind()
        await lock.acquire()

        async def enter():
            async with lock:
                pass

        assert parked(await start(lock.acquire())).on == f"{kind.__name__}.acquire"
        assert parked(await start(enter())).on == f"{kind.__name__}.acquire"
        lock.release()

    async def test_subclasses_keep_their_own_name(self, start):
        """A user looks for the name in his own code."""

        class Slots(asyncio.Semaphore):
            async def acquire(self):
                return await super().acquire()

        assert parked(await start(Slots(0).acquire())).on == "Slots.acquire"

    async def test_a_condition_tells_whether_it_was_notified(self, start):
        """Notified, it waits for the lock, which somebody else may never let go."""
        condition = asyncio.Condition()

        async def wait():
            async with condition:
                await condition.wait()

        task, late = await start(wait()), await start(wait())
        assert parked(task).on == "Condition.wait"

        async with condition:
            condition.notify()
            await turns()
            assert parked(task).on == "Condition.wait, notified, waiting for its lock"
            assert parked(late).on == "Condition.wait"
            entering = await start(condition.acquire())
            assert parked(entering).on == "Lock.acquire"
        await asyncio.wait([task, entering])
        condition.release()

    async def test_a_function_built_on_others_answers_for_them(self, start):
        """A Barrier waits on its Condition, a Queue's join on an Event: what the user called is named."""
        barrier, condition = asyncio.Barrier(2), asyncio.Condition()

        async def wait_for():
            async with condition:
                await condition.wait_for(lambda: False)

        assert parked(await start(barrier.wait())).on == "Barrier.wait"
        assert parked(await start(wait_for())).on == "Condition.wait"
        assert parked(await start(forever())).on == "Event.wait"

    async def test_asyncio_answers_for_its_own_frames_only(self, start):
        """What user code waits on behind a function of asyncio is the user's to know."""

        class Feed(asyncio.StreamReader):
            async def readuntil(self, separator=b"\n"):
                await reply

        reply = asyncio.get_running_loop().create_future()

        assert parked(await start(Feed().readline())).on == "Future"

    async def test_other_functions_of_asyncio_are_named(self, start):
        """There is no describer for each, but the name says enough. wait_for only passes on."""
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        future = asyncio.get_running_loop().create_future()

        async def handler():
            await asyncio.wait_for(future, 60)

        assert parked(await start(server.serve_forever())).on == "Server.serve_forever"

        class Awaitable:
            def __await__(self):
                return future.__await__()

        async def ensured():
            return await asyncio.ensure_future(Awaitable())

        assert parked(await start(handler())).on == "Future"
        # A function inside of asyncio that the user did not call.
        [wrapping] = waiting_for(await start(ensured()))
        assert parked(wrapping).on == "Future"
        server.close()

    async def test_a_custom_future_is_named_by_its_type(self, start):
        """A plain future says nothing more."""

        class Reply(asyncio.Future):
            pass

        async def handler():
            await reply

        reply = Reply()

        assert parked(await start(handler())).on == "Reply"


class TestTasks:
    async def test_an_awaited_task_is_named(self, start):
        """By its name, quoted."""
        child = await start(forever(), name="it's me")

        async def parent():
            await child

        task = await start(parent())

        assert parked(task).on == 'task "it\'s me"'
        assert waiting_for(task) == [child]

    async def test_an_awaited_task_without_a_name_is_named_by_what_it_runs(self, start):
        """CPython 3.13.0 names each nameless task "None" if a factory makes it, the eager one for example."""
        child = await start(forever(), name="None")

        async def parent():
            await child

        async def parent_of_many():
            await asyncio.gather(child, child)

        assert parked(await start(parent())).on == "task 'forever'"
        assert parked(await start(parent_of_many())).on == "gather of 'forever'"

    async def test_a_gather_names_its_unfinished_children_in_order(self, start):
        """Done ones are left out, one given twice is named once, futures are named by type."""
        a, b = await start(forever(), name="a"), await start(forever(), name="b")
        done = await start(asyncio.sleep(0))
        future = asyncio.get_running_loop().create_future()
        inner = asyncio.gather(a)

        async def parent():
            await asyncio.gather(b, done, a, b, future, inner)

        task = await start(parent())

        assert parked(task).on == "gather of 'b', 'a', Future, gather"
        assert waiting_for(task) == [b, a, future, inner]

    async def test_a_crowd_is_cut_short(self, start):
        """Five names at most, then how many more."""
        children = [await start(forever(), name=f"worker-{number}") for number in range(8, 13)]

        async def parent():
            await asyncio.gather(*children)

        async def group():
            async with asyncio.TaskGroup() as tasks:
                for number in range(12, 4, -1):
                    tasks.create_task(forever()).set_name(f"worker-{number}")

        assert parked(await start(parent())).on == (
            "gather of 'worker-8', 'worker-9', 'worker-10', 'worker-11', 'worker-12'"
        )
        children.append(await start(forever(), name="last"))
        assert parked(await start(parent())).on == (
            "gather of 'worker-8', 'worker-9', 'worker-10', 'worker-11', 'worker-12' and 1 more"
        )
        assert parked(await start(group())).on == (
            "TaskGroup with 'worker-5', 'worker-6', 'worker-7', 'worker-8', 'worker-9' and 3 more"
        )

    async def test_a_task_group_names_its_children(self, start):
        """Sorted, as it keeps them in a set."""

        class Nursery(asyncio.TaskGroup):
            pass

        async def parent():
            async with Nursery() as group:
                for name in "bca":
                    group.create_task(forever()).set_name(name)

        task = await start(parent())

        assert parked(task).on == "Nursery with 'a', 'b', 'c'"
        assert sorted(child.get_name() for child in waiting_for(task)) == ["a", "b", "c"]

    async def test_asyncio_wait_names_what_is_not_done(self, start):
        """Also with FIRST_COMPLETED."""
        a, b = await start(forever(), name="a"), await start(forever(), name="b")
        done = await start(asyncio.sleep(0))

        async def parent():
            await asyncio.wait([b, a, done])

        task = await start(parent())

        assert parked(task).on == "wait for 'a', 'b'"
        assert set(waiting_for(task)) == {a, b}

    async def test_a_crowd_that_is_done_is_no_list(self, start):
        """The parent has not heard of it yet."""
        children = [asyncio.get_running_loop().create_future() for _ in range(2)]

        async def parent():
            await asyncio.gather(*children)

        task = await start(parent())
        for child in children:
            child.set_result(None)

        assert parked(task).on == "gather"

    async def test_a_shield_tells_what_is_behind_it(self, start):
        """A task, or a gather of some."""
        child = await start(forever(), name="child")
        future = asyncio.get_running_loop().create_future()

        async def parent(awaitable):
            await asyncio.shield(awaitable)

        task = await start(parent(child))
        assert (parked(task).on, waiting_for(task)) == ("shield of task 'child'", [child])

        task = await start(parent(asyncio.gather(child)))
        assert (parked(task).on, waiting_for(task)) == ("shield of gather of 'child'", [child])

        task = await start(parent(future))
        assert (parked(task).on, waiting_for(task)) == ("shield of Future", [future])

    async def test_as_completed_is_named(self, start):
        """It waits on a queue of its own, which would tell nobody anything."""
        child = await start(forever())

        async def parent():
            for next_one in asyncio.as_completed([child]):
                await next_one

        assert parked(await start(parent())).on == "as_completed"


class TestWaitFor:
    async def test_it_waits_for_what_it_is_given(self, start):
        """A coroutine, a task, a future, a gather; on 3.11 it waits for a private future in their stead."""
        child = await start(forever(), name="child")
        future = asyncio.get_running_loop().create_future()

        async def parent(awaitable, timeout=60):
            await asyncio.wait_for(awaitable, timeout)

        task = await start(parent(asyncio.Queue().get()))
        assert parked(task).on == "Queue.get"
        task = await start(parent(forever(), None))
        assert parked(task).on == "Event.wait"
        task = await start(parent(child, None))
        assert (parked(task).on, waiting_for(task)) == ("task 'child'", [child])
        task = await start(parent(future))
        assert (parked(task).on, waiting_for(task)) == ("Future", [future])
        task = await start(parent(asyncio.gather(child)))
        assert (parked(task).on, waiting_for(task)) == ("gather of 'child'", [child])
        task = await start(parent(child))
        # On 3.11 it cannot be told from a task that wait_for made, whose name says nothing.
        assert parked(task).on == ("Event.wait" if sys.version_info < (3, 12) else "task 'child'")
        assert waiting_for(task) == [child]

    async def test_a_timeout_that_passed_waits_for_the_cancelled(self, start):
        """Who does not stop when cancelled is what it waits for."""
        released = asyncio.Event()

        async def stubborn():
            try:
                await forever()
            finally:
                await released.wait()

        child = await start(stubborn(), name="child")

        async def parent():
            await asyncio.wait_for(child, 0)

        task = await start(parent())

        # On 3.11 the walk goes on into the task.
        assert parked(task).on == ("Event.wait" if sys.version_info < (3, 12) else "task 'child'")
        assert waiting_for(task) == [child]

        released.set()
        await asyncio.wait([task])

    async def test_cancelling_and_waiting_is_waiting_for_the_cancelled(self, start):
        """wait_for and the Runner use a function of their own for it, which waits for a private future."""

        class Deaf(asyncio.Future):
            def cancel(self, msg=None):
                return False

        loop = asyncio.get_running_loop()
        cancel_and_wait = asyncio.tasks._cancel_and_wait
        if sys.version_info < (3, 12):
            cancel_and_wait = functools.partial(cancel_and_wait, loop=loop)
        future = Deaf()
        task = await start(cancel_and_wait(future))

        assert (parked(task).on, waiting_for(task)) == ("Deaf", [future])
        future.set_result(None)

    async def test_a_wait_that_is_over_is_ready(self, start):
        """What it waited for is done; it has not heard of it yet."""
        future = asyncio.get_running_loop().create_future()

        async def parent():
            await asyncio.wait_for(future, 60)

        task = await start(parent())
        future.set_result(None)

        assert parked(task).on == "nothing, it is ready to run"
        await task


class TestThreads:
    async def test_a_thread_is_named_by_its_function_where_that_can_be_seen(self, start):
        """to_thread shows it; the future of an executor does not."""
        event = threading.Event()
        wait = functools.partial(functools.partial(event.wait), None)

        class Callable:
            def __call__(self):
                event.wait()

        async def in_executor():
            await asyncio.get_running_loop().run_in_executor(None, event.wait)

        tasks = {
            await start(asyncio.to_thread(event.wait)): "a thread running Event.wait",
            await start(asyncio.to_thread(wait)): "a thread running Event.wait",
            await start(asyncio.to_thread(Callable())): "a thread running Callable",
            await start(in_executor()): "a thread",
        }
        found = {task: parked(task).on for task in tasks}
        event.set()
        await asyncio.wait(tasks)

        assert found == tasks

    @pytest.mark.asyncio(loop_factories=["default"])
    async def test_a_name_lookup_is_a_thread(self, start, monkeypatch):
        """A slow name server is a common reason to hang. (uvloop has a thread of its own for it.)"""
        event = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: event.wait() and [])
        task = await start(asyncio.get_running_loop().getaddrinfo("example.org", 80))
        found = parked(task).on
        event.set()
        await task

        assert found == "a thread running getaddrinfo"


@pytest.fixture
def sockets():
    """Make sockets that are closed in the end."""
    made = []

    def make(*args, existing=None):
        for sock in existing or [socket.socket(*args)]:
            sock.setblocking(False)
            made.append(sock)
        return made[-1]

    yield make
    for sock in made:
        sock.close()


class TestSockets:
    async def test_a_raw_socket_tells_its_descriptor_and_its_peer(self, start, sockets):
        """The call, the descriptor as in lsof, and who is at the other end."""
        loop = asyncio.get_running_loop()
        listener = sockets()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        host, port = listener.getsockname()

        accepting = await start(loop.sock_accept(listener))
        assert parked(accepting).on == f"socket fd={listener.fileno()}, sock_accept"

        client = sockets()
        await loop.sock_connect(client, (host, port))
        accepted, _ = await accepting
        sockets(existing=[accepted])
        fd = client.fileno()
        reading = await start(loop.sock_recv(client, 100))
        assert parked(reading).on == f"socket fd={fd}, sock_recv, peer 127.0.0.1:{port}"
        reading.cancel()
        await asyncio.wait([reading])

        writing = await start(loop.sock_sendall(client, bytes(50_000_000)))
        assert parked(writing).on == f"socket fd={fd}, sock_sendall, peer 127.0.0.1:{port}"

    async def test_a_connection_that_hangs_tells_where_it_goes(self, start, sockets):
        """The peer is not connected yet, but its address is known."""
        loop = asyncio.get_running_loop()
        listener = sockets()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # With the queue of the listener full, further connections get no answer.
        for _ in range(2):
            sockets().connect_ex(("127.0.0.1", port))

        sock = sockets()
        task = await start(loop.sock_connect(sock, ("127.0.0.1", port)))

        # uvloop's coroutines are compiled and show none of their variables.
        compiled = not isinstance(loop, asyncio.SelectorEventLoop)
        while compiled and not parked(task).on.startswith("socket"):
            await asyncio.sleep(0)  # it looks the address up first, in a thread
        peer = "" if compiled else f", peer 127.0.0.1:{port}"
        assert parked(task).on == f"socket fd={sock.fileno()}, sock_connect{peer}"

    @pytest.mark.parametrize(
        ("address", "written"),
        [
            (("127.0.0.1", 5555), "127.0.0.1:5555"),
            (("::1", 5555, 0, 0), "[::1]:5555"),
            ((2, 1024), "2:1024"),
            ("/run/app.sock", "/run/app.sock"),
            (b"\0app", "@app"),
            ("", ""),
            (b"", ""),
            (None, ""),
            ((), ""),
            ((object(), 1), ""),
        ],
    )
    def test_addresses_are_written_as_people_do(self, address, written):
        """IPv4, IPv6, vsock, a unix path, Linux's abstract namespace; a transport may give anything."""
        assert stacks.primitives._address(address) == written


class TestStreams:
    @pytest.fixture
    async def streams(self):
        """A connection whose other end neither reads nor writes."""
        connected = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: connected.set_result(streams), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        _, other = await connected
        yield reader, writer
        for end in (writer, other):
            end.transport.abort()
        server.close()
        await asyncio.gather(writer.wait_closed(), other.wait_closed(), return_exceptions=True)
        await server.wait_closed()

    @pytest.mark.parametrize("call", ["read", "readline", "readexactly", "readuntil"])
    async def test_a_reader_tells_its_peer(self, start, streams, call):
        """The method the user called, though all wait in one and the same."""
        reader, writer = streams
        port = writer.get_extra_info("peername")[1]

        task = await start(getattr(reader, call)(*([5] if call == "readexactly" else [])))

        assert parked(task).on == f"StreamReader.{call}, peer 127.0.0.1:{port}"

    async def test_iterating_over_a_reader_is_reading_lines(self, start, streams):
        """`async for line in reader`."""
        reader, _ = streams

        async def consume():
            async for _ in reader:
                pass

        assert parked(await start(consume())).on.startswith("StreamReader.readline, peer 127.0.0.1:")

    async def test_a_writer_that_cannot_drain_tells_its_peer(self, start, streams):
        """The other side reads too slowly."""
        _, writer = streams
        writer.write(bytes(50_000_000))
        port = writer.get_extra_info("peername")[1]

        assert parked(await start(writer.drain())).on == f"StreamWriter.drain, peer 127.0.0.1:{port}"

    async def test_a_unix_socket_is_told_by_its_path(self, start, tmp_path):
        """On the server's end only the server's own side has a name."""
        path = str(tmp_path / "s")
        connected = asyncio.get_running_loop().create_future()
        server = await asyncio.start_unix_server(lambda *streams: connected.set_result(streams), path)
        reader, writer = await asyncio.open_unix_connection(path)
        other_reader, other_writer = await connected

        assert parked(await start(reader.readline())).on == f"StreamReader.readline, peer {path}"
        assert parked(await start(other_reader.readline())).on == f"StreamReader.readline, on {path}"
        for end in (writer, other_writer):
            end.transport.abort()
        server.close()
        await asyncio.gather(writer.wait_closed(), other_writer.wait_closed(), return_exceptions=True)
        await server.wait_closed()

    async def test_a_reader_without_a_connection_has_no_peer(self, start):
        """One that is fed by hand, and a pipe."""

        class Pipe(asyncio.Transport):
            pass

        by_hand, pipe = asyncio.StreamReader(), asyncio.StreamReader()
        pipe.set_transport(Pipe())

        assert parked(await start(by_hand.read())).on == "StreamReader.read"
        assert parked(await start(pipe.read())).on == "StreamReader.read"

    async def test_a_subprocess_is_told_by_its_pid(self, start):
        """Waiting for its end, or for its output and its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        waiting = await start(process.wait())
        talking = await start(process.communicate())
        found = parked(waiting).on, parked(talking).on
        process.kill()
        await asyncio.wait([waiting, talking])

        assert found == (f"Process.wait, pid {process.pid}", f"Process.communicate, pid {process.pid}")
