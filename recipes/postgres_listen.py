"""A consumer of PostgreSQL's LISTEN/NOTIFY that loses nothing, whatever happens to its connection or the server.

    python recipes/postgres_listen.py postgresql://localhost/shop

A notification is a knock at the door and no more: who does not listen at that moment never hears of it. So the consumer
goes by the table of orders, with a cursor of its own that says how far it has come, and each knock, reconnection or
silence makes it look from there on. Each order is handled in the transaction that moves the cursor: both happen, or
neither does.

The program places an order each second and mails it. While it runs, kill its connection, or restart the server:

    psql postgresql://localhost/shop -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                                         WHERE application_name = 'mailer'"
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from psycopg import AsyncConnection, OperationalError
from psycopg.rows import class_row

from async_plus import Supervisor, heartbeat, ready, run, supervised

log = logging.getLogger("postgres_listen")

Connection: TypeAlias = AsyncConnection[Any]

# How long a knock may be missed, seconds, and how many orders share a transaction.
POLL = 5.0
BATCH = 100

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    item text NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_by_xid ON orders (xid, id);

CREATE TABLE IF NOT EXISTS cursors (consumer text PRIMARY KEY, xid xid8 NOT NULL, id bigint NOT NULL);

CREATE TABLE IF NOT EXISTS mails (order_id bigint NOT NULL, item text NOT NULL);

CREATE OR REPLACE FUNCTION knock() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NOTIFY orders; RETURN NULL; END';
CREATE OR REPLACE TRIGGER knock AFTER INSERT ON orders EXECUTE FUNCTION knock();
"""

# Not by the id alone. Numbers are given out when an order is written, and seen when it is committed:
#
#     A: INSERT ... id 1
#     B: INSERT ... id 2, COMMIT      the consumer handles 2, and its cursor says 2
#     A: COMMIT                       nobody ever looks for 1 again
#
# So the order is that of the transactions, and those wait that are younger than one that still runs, anywhere on the
# server. (Its numbers are its own. When a dump has moved the data to another server, set the cursors anew.)
NEXT = """
SELECT id, xid::text, item FROM orders
WHERE (xid, id) > (%s::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY orders.xid, id LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Order:
    id: int
    xid: str
    item: str


Handle: TypeAlias = Callable[[Connection, Order], Awaitable[object]]


async def connect(dsn: str, name: str) -> Connection:
    # A host that vanished answers nothing, and by default it takes the kernel a quarter of an hour to believe it.
    return await AsyncConnection.connect(
        dsn, autocommit=True, application_name=name, connect_timeout=10, keepalives_idle=10, tcp_user_timeout=20_000
    )


# The consumer: this is what a service with async_plus looks like.


# An OperationalError is the connection or the server, and passes. Any other error is a mistake in here or in the
# handler, which no restart mends: it ends the program. The heartbeat is for a handler that hangs.
@supervised(delays=[0, 0.5, 1, 5, 30], random_shift=0.2, on=OperationalError, heartbeat=60, ready=True)
async def consume(dsn: str, consumer: str, handle: Handle) -> None:
    """Have each order handled once, in the order of their transactions, for ever."""
    async with await connect(dsn, consumer) as connection:
        # First listen, then look: what is committed between the two is seen in one of them.
        await connection.execute("LISTEN orders")
        await connection.execute("INSERT INTO cursors VALUES (%s, '0', 0) ON CONFLICT DO NOTHING", [consumer])
        ready()
        while True:
            while await handle_some(connection, consumer, handle):
                pass
            heartbeat()
            async for _ in connection.notifies(timeout=POLL, stop_after=1):
                pass


async def handle_some(connection: Connection, consumer: str, handle: Handle) -> bool:
    """Handle the next orders, in one transaction with the cursor. Tell whether there were any."""
    async with connection.transaction(), connection.cursor(row_factory=class_row(Order)) as cursor:
        # Whoever holds the cursor is the only consumer of this name, though there may be two for a while, during a
        # deployment or after a connection broke of which the server has not heard yet.
        held = await connection.execute("SELECT xid::text, id FROM cursors WHERE consumer = %s FOR UPDATE", [consumer])
        orders = await (await cursor.execute(NEXT, [*(await held.fetchone() or ()), BATCH])).fetchall()
        for order in orders:
            await handle(connection, order)
            heartbeat()
        if orders:
            last = orders[-1]
            await connection.execute(
                "UPDATE cursors SET xid = %s::xid8, id = %s WHERE consumer = %s", [last.xid, last.id, consumer]
            )
    return bool(orders)


# What it is for. An effect on the database happens once, because it is in the same transaction. One outside of it, the
# real mail say, would happen at least once: in front of a commit that fails it has happened already.


async def mail(connection: Connection, order: Order) -> None:
    await connection.execute("INSERT INTO mails VALUES (%s, %s)", [order.id, order.item])
    log.info("order %d: %s is on its way", order.id, order.item)


@supervised(delays=[1, 5], on=OperationalError)
async def place_orders(dsn: str) -> None:
    async with await connect(dsn, "shop") as connection:
        while True:
            await connection.execute("INSERT INTO orders (item) VALUES ('a book')")
            await asyncio.sleep(1)


async def main(dsn: str, seconds: float | None = None) -> None:
    async with await connect(dsn, "setup") as connection:
        await connection.execute(SCHEMA)
    try:
        async with asyncio.timeout(seconds), Supervisor("shop") as sup:
            await sup.start(consume, dsn, "mailer", mail)
            await sup.start(place_orders, dsn)
            await sup.wait()
    except TimeoutError:
        async with await connect(dsn, "count") as connection:
            counts = await connection.execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM mails)")
            log.info("%g seconds are over: %d orders, %d mails", seconds, *(await counts.fetchone() or ()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A consumer of LISTEN/NOTIFY that loses nothing.")
    parser.add_argument("dsn", help="where the database is: postgresql://user@host/name")
    parser.add_argument("--seconds", type=float, help="how long to run (default: until it is stopped)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    run(main, arguments.dsn, arguments.seconds)
