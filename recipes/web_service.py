"""A web service with background services of its own, which loses no request when it is stopped.

    pip install aiohttp
    python recipes/web_service.py

    curl -d '{"currency": "USD", "amount": 3}' localhost:8080/orders

It takes orders. An order is answered when it is on the disk, which is the work of a background service; another one
keeps the exchange rates fresh. Send it a SIGTERM under load, and look at the answers: /readyz says 503 at once, every
request is answered, the background services stop when no request needs them any more, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import socket
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web

from async_plus import entry_point, health, heartbeat, ready, stopping, supervised, task_scope

# How a stop goes on, in seconds. The numbers in deploy/ follow from these.
LINGER = 5.0  # from /readyz saying no until no more connections are taken: what a balancer needs to notice
IDLE = 5.0  # from then on, for connections that are open to bring a last request
ANSWER = 10.0  # for the last requests to be answered
DRAIN = 25.0  # for all that. Then main is cancelled
GRACE = 5.0  # from the cancellation until the process ends, whatever hangs

# An option of Linux, for which Python has no name: the least time to live with which a packet is let in.
IP_MINTTL = 21

log = logging.getLogger("web_service")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# The background services.


class Journal:
    """Writes orders to the disk, many at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._is_wanted = asyncio.Event()

    async def add(self, order: dict[str, object]) -> None:
        """Return when *order* is on the disk."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((json.dumps(order) + "\n", written))
        self._is_wanted.set()
        await written

    @supervised(name="journal", delays=[0.1, 1, 5])
    async def write(self) -> None:
        while True:
            # What was here when an attempt failed still is. The next one may write it twice, but never not at all.
            batch = self._waiting[:]
            if batch:
                await asyncio.to_thread(append, self._path, [line for line, _ in batch])
                del self._waiting[: len(batch)]
                for _, written in batch:
                    if not written.done():  # the request may have been cancelled
                        written.set_result(None)
            else:
                self._is_wanted.clear()
                await self._is_wanted.wait()


def append(path: Path, lines: Sequence[str]) -> None:
    with path.open("a") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


@supervised(name="rates", ready=True, heartbeat=10, delays=[0.5, 1, 5], random_shift=0.5)
async def keep_fresh(rates: dict[str, float]) -> None:
    while True:
        rates.update(await ask_bank())
        ready()
        heartbeat()
        await asyncio.sleep(1)


async def ask_bank() -> dict[str, float]:
    """Stands for a call of another service."""
    await asyncio.sleep(0.05)
    return {"EUR": 1.0, "USD": round(random.uniform(1.05, 1.15), 4)}


# The web application.

JOURNAL = web.AppKey("journal", Journal)
RATES = web.AppKey("rates", dict[str, float])


def make_app(path: Path) -> web.Application:
    app = web.Application(middlewares=[close_when_stopping])
    app[JOURNAL], app[RATES] = Journal(path), {}
    app.cleanup_ctx.append(background)
    app.add_routes([web.post("/orders", order), web.get("/livez", livez), web.get("/readyz", readyz)])
    return app


async def background(app: web.Application) -> AsyncIterator[None]:
    async with task_scope(name="background") as scope:
        scope.launch(keep_fresh(app[RATES]))
        scope.launch(app[JOURNAL].write())
        yield
        # aiohttp comes back here when the last request is answered: until then, requests need these services.


async def order(request: web.Request) -> web.Response:
    try:
        wanted = json.loads(await request.text())
        price = request.app[RATES][wanted["currency"]] * wanted["amount"]
    except (ValueError, KeyError, TypeError):
        raise web.HTTPBadRequest(text="an order has a currency and an amount\n") from None
    entry: dict[str, object] = {"number": uuid.uuid4().hex, "price": price}
    await request.app[JOURNAL].add(entry)
    return web.json_response(entry, status=201)


async def livez(request: web.Request) -> web.Response:
    """Would a new process help? (If the loop is blocked there is no answer at all, which is one as well.)"""
    return web.Response(status=200 if health().live else 503)


async def readyz(request: web.Request) -> web.Response:
    """Should requests be sent here?"""
    now = health()
    problems = [*now.problems, "the program stops"] if stopping().is_set() else now.problems
    return web.Response(status=503 if problems else 200, text="".join(f"{line}\n" for line in problems))


@web.middleware
async def close_when_stopping(request: web.Request, handler: Handler) -> web.StreamResponse:
    # Else the client would send its next request into a connection that is about to be closed.
    response = await handler(request)
    if stopping().is_set():
        response.force_close()
    return response


# The program.


# stopping() is set by the first SIGTERM or SIGINT, DRAIN seconds before main is cancelled.
@entry_point(drain=DRAIN, grace=GRACE, watch_loop=0.5)
async def main(host: str, port: int, path: Path, linger: float) -> None:
    listener = socket.create_server((host, port), backlog=1024)
    runner = web.AppRunner(make_app(path), shutdown_timeout=ANSWER)
    await runner.setup()
    try:
        site = web.SockSite(runner, listener)
        await site.start()
        log.info("listening on http://%s:%d, orders go to %s", *listener.getsockname(), path)
        await stopping().wait()
        log.info("told to stop: /readyz says so, and requests are still taken for %g seconds", linger)
        await asyncio.sleep(linger)
        await take_no_more(listener, runner)
        await site.stop()
        log.info("no more connections are taken, the last requests are answered")
        await last_requests(runner)
    finally:
        # Closes what is idle, reads no more, waits for answers in progress, and leaves background() at last.
        await runner.cleanup()
    log.info("stopped in order: %d tasks left", len(asyncio.all_tasks()) - 1)


async def take_no_more(listener: socket.socket, runner: web.AppRunner) -> None:
    """Have no new connections made to *listener*, and take those that are in its queue.

    If it was closed at once, they would be broken: made, says the kernel to the client, and we have not seen them yet.
    """
    if sys.platform == "linux":
        # A packet that opens a connection must have a time to live that none has, and is dropped. The client sends it
        # again in a second, and is refused then.
        listener.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
    await asyncio.sleep(0.2)
    for connection in runner.server.connections if runner.server is not None else ():
        if sys.platform == "linux" and connection.transport is not None:
            # Those that were being made meanwhile have inherited it.
            connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)


async def last_requests(runner: web.AppRunner) -> None:
    """Wait until all connections are closed: each is after its next answer. Some may have nothing more to say."""
    try:
        async with asyncio.timeout(IDLE):
            while runner.server is not None and runner.server.connections:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A web service that loses no request when it is stopped.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="(default: orders.jsonl, among temporary files)")
    parser.add_argument("--linger", type=float, default=LINGER, metavar="SECONDS", help="(default: %(default)g)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # Not as a default: to look for the folder fails where nothing but the journal's own may be written, as in deploy/.
    journal = arguments.journal or Path(tempfile.gettempdir(), "orders.jsonl")
    main(arguments.host, arguments.port, journal, arguments.linger)
