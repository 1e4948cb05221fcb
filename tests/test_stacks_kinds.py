"""Every kind of wait: the function, the line and what it waits on, on every loop. (Corners: test_stacks_waiters.py.)"""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
import threading
import types

import aiohttp
import anyio
import pytest
from tools import forever, start, turns

from async_plus import Parked, Place
from async_plus.stacks import chain, parked


def here(function):
    """The line of *function* that is marked."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, line in enumerate(lines, first) if line.rstrip().endswith("# here")]
    return Place(function.__code__.co_filename, number, function.__name__)


@pytest.fixture
async def park():
    """Start a coroutine function in a task, let it run until it is parked, and cancel it in the end."""
    tasks = []

    async def park(function, *args, name=None):
        tasks.append(await start(function(*args), name))
        return tasks[-1]

    yield park
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Coroutines, and what is between them.


async def coroutine():
    await forever()  # here


async def async_for():
    async def items():
        yield await forever()

    async for _ in items():  # here
        pass


async def asend():
    async def items():
        yield await forever()

    await items().asend(None)  # here


async def athrow():
    async def items():
        try:
            yield
        finally:
            await forever()

    iterator = items()
    await anext(iterator)
    await iterator.athrow(ValueError)  # here


async def anext_with_default():
    async def items():
        yield await forever()

    await anext(items(), None)  # here


async def generator_based():
    @types.coroutine
    def old():
        yield from forever().__await__()

    await old()  # here


async def in_wait_for():
    await asyncio.wait_for(forever(), 60)  # here


async def in_timeout():
    async with asyncio.timeout(60):
        await forever()  # here


@pytest.mark.parametrize(
    "function",
    [coroutine, async_for, asend, athrow, anext_with_default, generator_based, in_wait_for, in_timeout],
    ids=lambda function: function.__name__,
)
async def test_the_chain_goes_on_to_the_innermost_frame(park, function):
    """The line that the task stands at is in the chain, and so is the function that it has called there."""
    links = chain(await park(function)).links

    assert here(function) == links[0].place
    assert links[-1].name == "forever"


# Primitives of asyncio.


async def sleep():
    await asyncio.sleep(60)  # here


async def task():
    await asyncio.create_task(forever(), name="child")  # here


async def task_group():
    async with asyncio.TaskGroup() as group:  # here
        group.create_task(forever(), name="child")


async def gather():
    await asyncio.gather(asyncio.create_task(forever(), name="child"))  # here


async def shield():
    await asyncio.shield(asyncio.create_task(forever(), name="child"))  # here


async def wait():
    await asyncio.wait([asyncio.create_task(forever(), name="child")])  # here


async def lock():
    async with (lock := asyncio.Lock()):
        await lock.acquire()  # here


async def async_with_lock():
    lock = asyncio.Lock()
    await lock.acquire()
    async with lock:  # here
        pass


async def semaphore():
    await asyncio.Semaphore(0).acquire()  # here


async def bounded_semaphore():
    await asyncio.BoundedSemaphore(0).acquire()  # here


async def condition():
    async with (condition := asyncio.Condition()):
        await condition.wait()  # here


async def condition_wait_for():
    async with (condition := asyncio.Condition()):
        await condition.wait_for(lambda: False)  # here


async def event():
    await asyncio.Event().wait()  # here


async def barrier():
    await asyncio.Barrier(2).wait()  # here


async def async_with_barrier():
    async with asyncio.Barrier(2):  # here
        pass


async def queue_get():
    await asyncio.Queue().get()  # here


async def queue_put():
    queue = asyncio.Queue(1)
    queue.put_nowait("a secret")
    await queue.put("a secret")  # here


async def queue_join():
    queue = asyncio.Queue()
    queue.put_nowait("a secret")
    await queue.join()  # here


PRIMITIVES = {
    task: "task 'child'",
    task_group: "TaskGroup with 'child'",
    gather: "gather of 'child'",
    shield: "shield of task 'child'",
    wait: "wait for 'child'",
    lock: "Lock.acquire",
    async_with_lock: "Lock.acquire",
    semaphore: "Semaphore.acquire",
    bounded_semaphore: "BoundedSemaphore.acquire",
    condition: "Condition.wait",
    condition_wait_for: "Condition.wait",
    event: "Event.wait",
    barrier: "Barrier.wait",
    async_with_barrier: "Barrier.wait",
    queue_get: "Queue.get",
    queue_put: "Queue.put",
    queue_join: "Queue.join",
}


@pytest.mark.parametrize(("function", "on"), PRIMITIVES.items(), ids=lambda thing: getattr(thing, "__name__", ""))
async def test_a_primitive_is_named_at_its_line(park, function, on):
    """Function, line and object, for all that asyncio has to wait on."""
    before = asyncio.all_tasks()
    task = await park(function)

    assert parked(task) == Parked(here(function), on)
    for child in asyncio.all_tasks() - before - {task}:
        child.cancel()
    await turns()


@pytest.mark.virtual_time
async def test_a_sleep_tells_how_long_it_still_lasts(park):
    """In seconds, by the clock of the loop."""
    task = await park(sleep)
    await asyncio.sleep(17.5)

    assert parked(task) == Parked(here(sleep), "sleep, 42.5 s left")


async def to_thread(released):
    await asyncio.to_thread(released.wait)  # here


async def executor(released):
    await asyncio.get_running_loop().run_in_executor(None, released.wait)  # here


@pytest.mark.parametrize(("function", "on"), [(to_thread, "a thread running Event.wait"), (executor, "a thread")])
async def test_a_thread_is_named_at_its_line(function, on):
    """With what it runs, where that can be seen."""
    released = threading.Event()
    task = await start(function(released))
    found = parked(task)
    released.set()
    await task

    assert found == Parked(here(function), on)


@pytest.fixture
async def silent_server():
    """The port of a server that accepts connections and says nothing."""
    writers = []

    async def accept(reader, writer):
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.transport.abort()
    await server.wait_closed()
    await turns()


async def stream(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.readline()  # here
    finally:
        writer.transport.abort()


async def anyio_socket(port):
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:
        await connection.receive()  # here


async def aiohttp_request(port):
    url = f"http://127.0.0.1:{port}/a-secret"
    async with aiohttp.ClientSession() as session, session.get(url):  # here
        pass


async def aiohttp_body(port):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/a-secret") as response:
        await response.read()  # here


async def aiohttp_full_pool(port):
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{port}/a-secret"
        first = asyncio.ensure_future(session.get(url).__aenter__())
        while not connector._acquired:
            await asyncio.sleep(0)
        try:
            await session.get(url)  # here
        finally:
            first.cancel()
            await asyncio.wait([first])


@pytest.fixture
async def slow_server():
    """The port of a web server that never comes to an end."""
    writers = []

    async def answer(reader, writer):
        writers.append(writer)
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.transport.abort()
    await server.wait_closed()
    await turns()


async def test_the_body_of_a_response_is_named_at_its_line(park, slow_server):
    """That it is waited for, and not the answer any more."""
    task = await park(aiohttp_body, slow_server)
    while not parked(task).on.startswith("StreamReader."):
        await asyncio.sleep(0.001)
        assert not task.done()

    assert parked(task).on == f"StreamReader.readany, peer 127.0.0.1:{slow_server}"
    assert here(aiohttp_body) in chain(task).places()


NETWORK = {
    stream: "StreamReader.readline, peer 127.0.0.1:{port}",
    anyio_socket: "SocketStream.receive, peer 127.0.0.1:{port}",
    aiohttp_request: "ClientResponse.start, peer 127.0.0.1:{port}",
    aiohttp_full_pool: "TCPConnector.connect, all its connections are in use",
}


@pytest.mark.parametrize(("function", "on"), NETWORK.items(), ids=lambda thing: getattr(thing, "__name__", ""))
async def test_a_connection_is_named_at_its_line(park, silent_server, function, on):
    """With who is at the other end, and without what was asked of him."""
    task = await park(function, silent_server)
    wanted = on.format(port=silent_server)
    # Until it is connected.
    while parked(task).on != wanted:
        await asyncio.sleep(0.001)
        assert not task.done()

    assert here(function) in chain(task).places()


async def raw_socket(sock):
    await asyncio.get_running_loop().sock_recv(sock, 100)  # here


async def test_a_raw_socket_is_named_at_its_line(park, silent_server):
    """By its descriptor and its peer, on uvloop too."""
    with socket.create_connection(("127.0.0.1", silent_server)) as sock:
        sock.setblocking(False)
        task = await park(raw_socket, sock)
        on = f"socket fd={sock.fileno()}, sock_recv, peer 127.0.0.1:{silent_server}"
        assert parked(task) == Parked(here(raw_socket), on)
        task.cancel()
        await asyncio.wait([task])


async def subprocess(process):
    await process.wait()  # here


async def test_a_subprocess_is_named_at_its_line(park):
    """By its process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    task = await park(subprocess, process)
    found = parked(task)
    process.kill()
    await task

    assert found == Parked(here(subprocess), f"Process.wait, pid {process.pid}")


# anyio.


async def anyio_enter(lock):
    async with lock:  # here
        pass


async def anyio_semaphore():
    async with anyio.Semaphore(0):  # here
        pass


async def anyio_limiter():
    limiter = anyio.CapacityLimiter(1)
    await limiter.acquire_on_behalf_of("somebody")
    async with limiter:  # here
        pass


async def anyio_event():
    await anyio.Event().wait()  # here


async def anyio_condition():
    async with (condition := anyio.Condition()):
        await condition.wait()  # here


async def anyio_task_group():
    async with anyio.create_task_group() as group:  # here
        group.start_soon(forever, name="child")


async def anyio_receive():
    send, receive = anyio.create_memory_object_stream(0)
    with send, receive:
        await receive.receive()  # here


async def anyio_send():
    send, receive = anyio.create_memory_object_stream(0)
    with send, receive:
        await send.send("a secret")  # here


async def anyio_iterate():
    send, receive = anyio.create_memory_object_stream(0)
    with send, receive:
        async for _ in receive:  # here
            pass


ANYIO = {
    anyio_semaphore: "Semaphore.acquire",
    anyio_limiter: "CapacityLimiter.acquire",
    anyio_event: "Event.wait",
    anyio_condition: "Condition.wait",
    anyio_task_group: "TaskGroup with 'child'",
    anyio_receive: "MemoryObjectReceiveStream.receive",
    anyio_send: "MemoryObjectSendStream.send",
    anyio_iterate: "MemoryObjectReceiveStream.receive",
}


@pytest.mark.parametrize(("function", "on"), ANYIO.items(), ids=lambda thing: getattr(thing, "__name__", ""))
async def test_a_primitive_of_anyio_is_named_at_its_line(park, function, on):
    """anyio's own frames are in the chain, since installed packages are user code, and answer for what they wait on."""
    found = chain(await park(function))

    assert found.places()[0] == here(function)
    assert found.on() == on


async def test_a_lock_of_anyio_is_named_at_its_line():
    """Also the one that it takes for a lock."""
    lock = anyio.Lock()
    await lock.acquire()
    task = await start(anyio_enter(lock))
    found = chain(task)

    assert found.places()[0] == here(anyio_enter)
    assert found.on() == "Lock.acquire"
    lock.release()
    await task


async def anyio_thread(released):
    await anyio.to_thread.run_sync(released.wait)  # here


async def test_a_thread_of_anyio_is_named_at_its_line():
    """With what it runs."""
    released = threading.Event()
    task = await start(anyio_thread(released))
    places, on = chain(task).places(), parked(task).on
    released.set()
    await task

    assert here(anyio_thread) in places
    assert on == "a thread running Event.wait"
