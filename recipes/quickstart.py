"""Two consumers of a feed that misbehaves, and everything the log says about it.

    python recipes/quickstart.py

It needs no server: a small one of its own, on the loopback interface, sends prices and then does what servers do. It
drops connections, goes silent, and sends garbage. Watch the log: each failure with its traceback and the delay until
the restart, a wait that hangs with the line and the peer it hangs on, and a background task that fails on its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from async_plus import impatient, run, supervised, task_scope, watched

log = logging.getLogger("quickstart")

Fault: TypeAlias = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


# The consumers: this is what a service with async_plus looks like.


class FeedError(Exception):
    """The feed sent something that is no price."""


@impatient(log_after=1)
async def next_line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line:
        raise ConnectionError("the feed hung up")
    return line


@watched
async def archive(symbol: str, prices: list[float]) -> None:
    if max(prices) > 120:
        raise OSError(f"no space left to archive {len(prices)} prices of {symbol}")


async def follow(symbol: str, port: int, received: Counter[str]) -> None:
    """Receive the prices of *symbol* for ever; each ten of them go to the archive."""
    prices: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{symbol}\n".encode())
        while True:
            prices.append(parse(await next_line(reader)))
            received[symbol] += 1
            if len(prices) == 10:
                archive(symbol, prices)
                prices = []
    finally:
        writer.close()


def parse(line: bytes) -> float:
    try:
        return float(json.loads(line)["price"])
    except (ValueError, KeyError):
        raise FeedError("the feed sent something that is no price") from None


async def follow_all(symbols: Sequence[str], port: int, seconds: float) -> Counter[str]:
    """Follow the prices of all *symbols* for some *seconds*, and count them."""
    received = Counter(dict.fromkeys(symbols, 0))
    async with task_scope(name="consumers") as scope:
        for symbol in symbols:
            # Above the function this would read @supervised(...). Here, each symbol gets a name of its own in the log.
            restarting = supervised(
                name=f"feed of {symbol}", delays=[0.5, 1, 2, 4], random_shift=0.2, on=(OSError, FeedError)
            )
            scope.launch(restarting(follow)(symbol, port, received))
        try:
            await scope.wait(timeout=seconds)
        except TimeoutError:
            log.info("%g seconds are over: the scope stops its consumers", seconds)
    return received


# The feed: no part of what you would write.


class FlakyFeed:
    """A price feed over TCP that serves each connection for a moment and then fails it in one of three ways."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._faults: list[Fault] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            price = 100.0
            for _ in range(self._random.randint(10, 20)):
                price += self._random.uniform(-5, 6)
                writer.write(json.dumps({"price": price}).encode() + b"\n")
                await asyncio.sleep(0.05)
            await self._next_fault()(writer)
        except ConnectionError:
            pass  # the consumer was stopped first

    def _next_fault(self) -> Fault:
        # In a random order, yet each of them in every three, so that a short run shows them all.
        if not self._faults:
            self._faults = [self._drop, self._go_silent, self._send_garbage]
            self._random.shuffle(self._faults)
        return self._faults.pop()

    async def _drop(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def _go_silent(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(4)

    async def _send_garbage(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"<html>502 Bad Gateway</html>\n")
        await writer.drain()


async def main(seconds: float, seed: int) -> None:
    feed = FlakyFeed(seed)
    async with task_scope(name="connections of the feed") as connections:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # One that comes in the last moment is refused by the scope, or ends before its first step.
            try:
                connections.launch(feed.serve(reader, writer)).add_done_callback(lambda _: writer.close())
            except RuntimeError:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        received = await follow_all(["ACME", "GLOBEX"], port, seconds)
        server.close()
    left = len(asyncio.all_tasks()) - 1
    log.info("stopped in order: %d tasks left, prices received: %s", left, dict(received))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two consumers of a feed that misbehaves.")
    parser.add_argument("--seconds", type=float, default=15, help="how long to run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what goes wrong when (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    # As asyncio.run, and Ctrl-C or SIGTERM stop it in the same order as the end of its time does.
    run(main, arguments.seconds, arguments.seed)
