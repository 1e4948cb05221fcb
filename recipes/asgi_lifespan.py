"""A FastAPI application under uvicorn with a background service in its lifespan, which loses no request when stopped.

    pip install fastapi uvicorn
    python recipes/asgi_lifespan.py

    curl --json '{"currency": "USD", "amount": 3}' localhost:8080/quotes

Requests are answered by a background service that asks a bank for many prices at once. It lives in a scope in the
lifespan, so it starts before the first request and ends after the last answer.

Who owns SIGTERM? uvicorn handles it itself, by closing its sockets first: /readyz could never say no, and a balancer
goes on sending to a port that refuses. It also waits for a lifespan that hangs for as long as that hangs. So here `run`
owns the signals. It sets stopping() at once, holds all to drain and grace, and tells uvicorn when to exit.

``uvicorn asgi_lifespan:app`` works as well. Then uvicorn owns them: the scope still ends after the last answer, but
nobody sets stopping(), and there is no time after which the process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import socket
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TypedDict

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from async_plus import entry_point, health, heartbeat, ready, stopping, supervised, task_scope

# How a stop goes on, in seconds. recipes/deploy shows what follows from such numbers.
LINGER = 5.0  # from /readyz saying no until no more connections are taken: what a balancer needs to notice
IDLE = 5.0  # from then on, for connections that are open to bring a last request
ANSWER = 10  # for the last requests to be answered
DRAIN = 25.0  # for all that. Then main is cancelled
GRACE = 5.0  # from the cancellation until the process ends, whatever hangs

# An option of Linux, for which Python has no name: the least time to live with which a packet is let in.
IP_MINTTL = 21

log = logging.getLogger("asgi_lifespan")


# The background service.


class Order(BaseModel):
    currency: str
    amount: float


class Quotes:
    """Asks the bank for the prices of many orders at once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Order, asyncio.Future[float]]] = []
        self._is_wanted = asyncio.Event()

    async def price(self, order: Order) -> float:
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        self._is_wanted.set()
        return await answer

    @supervised(name="quotes", ready=True, heartbeat=10, delays=[0.5, 1, 5], random_shift=0.5)
    async def answer(self) -> None:
        while True:
            # What was here when an attempt failed still is.
            batch = self._waiting[:]
            prices = await ask_bank([order for order, _ in batch])
            ready()
            heartbeat()
            del self._waiting[: len(batch)]
            for (_, answer), price in zip(batch, prices, strict=True):
                if not answer.done():  # the request may have been cancelled
                    answer.set_result(price)
            if not self._waiting:
                self._is_wanted.clear()
                # Now and then without an order as well, so that /readyz knows whether the bank is there.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self._is_wanted.wait()


async def ask_bank(orders: Sequence[Order]) -> list[float]:
    """Stands for a call of another service."""
    await asyncio.sleep(0.02)
    return [round(order.amount * random.uniform(1.05, 1.15), 4) for order in orders]


# The web application.


class State(TypedDict):
    quotes: Quotes


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[State, None]:
    quotes = Quotes()
    async with task_scope(name="background") as scope:
        scope.launch(quotes.answer())
        yield State(quotes=quotes)
        # uvicorn comes back here when the last request is answered: until then, requests need the service.


app = FastAPI(lifespan=lifespan)


@app.post("/quotes", status_code=201)
async def quote(order: Order, request: Request) -> float:
    quotes: Quotes = request.state.quotes
    return await quotes.price(order)


@app.get("/livez")
async def livez() -> Response:
    """Would a new process help? (If the loop is blocked there is no answer at all, which is one as well.)"""
    return Response(status_code=200 if health().live else 503)


@app.get("/readyz")
async def readyz() -> Response:
    """Should requests be sent here?"""
    now = health()
    problems = [*now.problems, "the program stops"] if stopping().is_set() else now.problems
    return Response("".join(f"{line}\n" for line in problems), 503 if problems else 200)


class CloseWhenStopping:
    """Else a client would send its next request into a connection that is about to be closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and stopping().is_set():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, receive, send_on)


app.add_middleware(CloseWhenStopping)


# The program.


class Server(uvicorn.Server):
    """uvicorn, but for the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


# stopping() is set by the first SIGTERM or SIGINT, DRAIN seconds before main is cancelled.
@entry_point(drain=DRAIN, grace=GRACE, watch_loop=0.5)
async def main(host: str, port: int, linger: float) -> None:
    listener = socket.create_server((host, port), backlog=1024)
    config = uvicorn.Config(app, backlog=1024, log_config=None, access_log=False, timeout_graceful_shutdown=ANSWER)
    server = Server(config)
    async with task_scope(name="stop") as scope:
        scope.launch(exit_in_order(server, listener, linger))
        log.info("listening on http://%s:%d", *listener.getsockname())
        await server.serve(sockets=[listener])
    log.info("stopped in order: %d tasks left", len(asyncio.all_tasks()) - 1)


async def exit_in_order(server: uvicorn.Server, listener: socket.socket, linger: float) -> None:
    await stopping().wait()
    log.info("told to stop: /readyz says so, and requests are still taken for %g seconds", linger)
    await asyncio.sleep(linger)
    await take_no_more(listener, server)
    for accepting in server.servers:
        accepting.close()
    log.info("no more connections are taken, the last requests are answered")
    await last_requests(server)
    # Closes what is idle, waits for answers in progress, and leaves the lifespan at last.
    server.should_exit = True


async def take_no_more(listener: socket.socket, server: uvicorn.Server) -> None:
    """Have no new connections made to *listener*, and take those that are in its queue.

    If it was closed at once, they would be broken: made, says the kernel to the client, and we have not seen them yet.
    """
    if sys.platform == "linux":
        # A packet that opens a connection must have a time to live that none has, and is dropped. The client sends it
        # again in a second, and is refused then.
        listener.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
    await asyncio.sleep(0.2)
    for connection in server.server_state.connections:
        if sys.platform == "linux":
            # Those that were being made meanwhile have inherited it.
            connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)


async def last_requests(server: uvicorn.Server) -> None:
    """Wait until all connections are closed: each is after its next answer. Some may have nothing more to say."""
    try:
        async with asyncio.timeout(IDLE):
            while server.server_state.connections:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A FastAPI application that loses no request when it is stopped.")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--linger", type=float, default=LINGER, metavar="SECONDS", help="(default: %(default)g)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    main(arguments.host, arguments.port, arguments.linger)
