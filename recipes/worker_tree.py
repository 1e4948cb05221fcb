"""A database, producers and workers as a tree, in which one after the other is killed and no job is lost.

    python recipes/worker_tree.py

                     app (rest for one)
         ┌────────────────┼────────────────┐
      database        producers         workers
                    (one for one)    (one for one)
                    producer 0, 1    worker 0, 1, 2

A worker that fails is restarted alone. If all workers fail for good, they are restarted as a group. If the database
fails, so are producers and workers, which need it: all that was started after it, in order, when it is ready again.
Watch the log: every two seconds somebody is killed.

It needs no database: a small one of its own, on the loopback interface, keeps the jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from async_plus import Supervisor, heartbeat, ready, run, supervised, task_scope

log = logging.getLogger("worker_tree")


# The tree: this is what a service with a Supervisor looks like.


class Pool:
    """Connections to the database, at most *size* at a time."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(size)

    @supervised(name="database", ready=True, heartbeat=5, delays=[0.5, 1, 5])
    async def watch(self) -> None:
        """Ask now and then whether the database is there. Everything that needs it is started after this."""
        try:
            while True:
                async with self.connection() as connection:
                    await connection.ask("ping")
                ready()
                heartbeat()
                await asyncio.sleep(0.5)
        finally:
            while self._idle:
                self._idle.pop().close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        async with self._free:
            connection = self._idle.pop() if self._idle else await Connection.open(self._port)
            try:
                yield connection
            except BaseException:
                # Killed half way, say. The database takes back what was begun when the connection closes.
                connection.close()
                raise
            self._idle.append(connection)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, question: str) -> str:
        self._writer.write(f"{question}\n".encode())
        answer = await self._reader.readline()
        if not answer:
            raise ConnectionError("the database hung up")
        return answer.decode().strip()

    def close(self) -> None:
        self._writer.close()


@dataclass
class Source:
    """Where jobs come from. It outlives the producer that reads it."""

    name: str
    position: int = 0


@supervised(name="producers", delays=[0.5, 1, 5])
async def producers(pool: Pool, sources: Sequence[Source]) -> None:
    async with Supervisor("producers") as group:
        for number, source in enumerate(sources):
            await group.start(produce, pool, source, name=f"producer {number}")
        await group.wait()


# After five failures in a row a restart of this one alone does not help. The group fails then, and is restarted.
@supervised(delays=[0.1, 0.5], max_restarts=5)
async def produce(pool: Pool, source: Source) -> None:
    while True:
        # The position goes on only when the job is stored. Killed in between, the next one stores it a second time,
        # which the database does not mind: a job has a name.
        async with pool.connection() as connection:
            await connection.ask(f"add {source.name}-{source.position}")
        source.position += 1
        await asyncio.sleep(0.05)


@supervised(name="workers", delays=[0.5, 1, 5])
async def workers(pool: Pool, count: int) -> None:
    async with Supervisor("workers") as group:
        for number in range(count):
            await group.start(work, pool, name=f"worker {number}")
        await group.wait()


@supervised(delays=[0.1, 0.5], max_restarts=5)
async def work(pool: Pool) -> None:
    while True:
        async with pool.connection() as connection:
            job = await connection.ask("take")
            if job:
                await asyncio.sleep(0.05)  # stands for the work
                await connection.ask(f"done {job}")
        if not job:
            await asyncio.sleep(0.1)


async def tree(port: int, seconds: float, sources: Sequence[Source]) -> None:
    pool = Pool(port, size=4)
    async with Supervisor("app", strategy="rest_for_one") as app:
        await app.start(pool.watch)  # returns when it is ready
        await app.start(producers, pool, sources)
        await app.start(workers, pool, 3)
        try:
            async with asyncio.timeout(seconds):
                await app.wait()
        except TimeoutError:
            log.info("%g seconds are over: workers, producers and database stop, in this order", seconds)


# What goes wrong: no part of what you would write.

VICTIMS = ("worker 1", "producer 0", "workers", "producers", "database", "connections")


async def kill_in_turn(database: Database, victims: Sequence[str], pause: float) -> None:
    for victim in victims:
        await asyncio.sleep(pause)
        log.info("--- killing %s", victim)
        if victim == "connections":
            database.hang_up()
        else:
            # Nobody asked it to stop, so this counts as a failure.
            [attempt] = [task for task in asyncio.all_tasks() if task.get_name().startswith(f"{victim}#")]
            attempt.cancel()


class Database:
    """Keeps jobs. What a connection has taken and not done goes back when it closes, as in a transaction."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        self._queue: deque[str] = deque()
        self._connections: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken: set[str] = set()
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                writer.write(self._answer(line.decode().strip(), taken).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._connections.discard(writer)
            for job in taken:
                self.jobs[job] = "queued"
                self._queue.append(job)

    def _answer(self, question: str, taken: set[str]) -> str:
        match question.split():
            case ["add", job]:
                if job not in self.jobs:
                    self.jobs[job] = "queued"
                    self._queue.append(job)
            case ["take"] if self._queue:
                job = self._queue.popleft()
                self.jobs[job] = "taken"
                taken.add(job)
                return job
            case ["done", job]:
                self.jobs[job] = "done"
                taken.discard(job)
            case _:
                pass
        return ""

    def hang_up(self) -> None:
        """Break all connections, as a restart does."""
        for writer in self._connections:
            writer.transport.abort()


async def main(seconds: float, victims: Sequence[str] = VICTIMS, pause: float = 2) -> dict[str, str]:
    """Return all jobs that the sources have stored, and what has become of each."""
    database = Database()
    sources = [Source("a"), Source("b")]
    async with task_scope(name="connections of the database") as connections:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # One that comes in the last moment is refused by the scope, or ends before its first step.
            try:
                connections.launch(database.serve(reader, writer)).add_done_callback(lambda _: writer.close())
            except RuntimeError:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with task_scope(name="what goes wrong") as trouble:
            trouble.launch(kill_in_turn(database, victims, pause))
            await tree(server.sockets[0].getsockname()[1], seconds, sources)
        server.close()
    # Each source has told how far it is. All that it has stored must be there.
    expected = {f"{source.name}-{position}" for source in sources for position in range(source.position)}
    log.info("jobs: %s, lost: %d", dict(Counter(database.jobs.values())), len(expected - database.jobs.keys()))
    return database.jobs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A tree of services in which one after the other is killed.")
    parser.add_argument("--seconds", type=float, default=15, help="how long to run (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    run(main, arguments.seconds)
