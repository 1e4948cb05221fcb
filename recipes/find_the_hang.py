"""A warehouse that hangs in two places, and the one signal that tells where.

    python recipes/find_the_hang.py

After a moment nothing happens any more: two moves between the stocks have locked each other out, and nobody packs
orders since the task that reads them has failed. It prints the command that makes it tell, for another terminal:

    kill -USR1 <its process id>

Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeAlias

from async_plus import run, task_scope

log = logging.getLogger("warehouse")

# A name and a number of pieces, None after the last one.
Orders: TypeAlias = "asyncio.Queue[tuple[str, int] | None]"

INBOX = ["Ada, 3", "Grace, 12", "Edsger, 2x", "Barbara, 7"]


class Stock:
    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.lock = asyncio.Lock()


async def book_truck() -> None:
    await asyncio.sleep(0.1)


async def move(pieces: int, source: Stock, target: Stock) -> None:
    async with source.lock:
        await book_truck()
        async with target.lock:
            source.pieces -= pieces
            target.pieces += pieces


async def ship(batches: Sequence[int], source: Stock, target: Stock) -> None:
    for pieces in batches:
        await move(pieces, source, target)


async def read_orders(lines: Iterable[str], orders: Orders) -> None:
    for line in lines:
        name, pieces = line.split(", ")
        await orders.put((name, int(pieces)))
    await orders.put(None)


async def incoming(orders: Orders) -> AsyncIterator[tuple[str, int]]:
    while (order := await orders.get()) is not None:
        yield order


async def pack_orders(orders: Orders) -> None:
    async for name, pieces in incoming(orders):
        log.info("packed %d pieces for %s", pieces, name)


async def main() -> None:
    print(f"If it hangs, type in another terminal: kill -USR1 {os.getpid()}", flush=True)
    berlin, paris = Stock(500), Stock(400)
    orders: Orders = asyncio.Queue()
    async with task_scope(name="warehouse") as scope:
        scope.launch(ship([20, 10], berlin, paris), name="Berlin to Paris")
        scope.launch(ship([30], paris, berlin), name="Paris to Berlin")
        scope.launch(read_orders(INBOX, orders), name="read orders")
        scope.launch(pack_orders(orders), name="pack orders")
        await scope.wait(return_when=asyncio.ALL_COMPLETED)
    log.info("all is done")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    # It answers SIGUSR1 without being told to.
    run(main)
