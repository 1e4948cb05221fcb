"""The consumer of LISTEN/NOTIFY in the recipes loses nothing, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import re

import psycopg
import pytest
from programs import load, run_recipe
from servers import Postgres, running

from async_plus import task_scope
from async_plus.testing import record_events


@pytest.fixture(scope="module")
def server():
    with running(Postgres) as server:
        yield server


@pytest.fixture
def recipe(server, monkeypatch):
    """The recipe, with the delays of its restarts shortened, on a database that has its tables and nothing in them."""
    recipe = load("postgres_listen")
    monkeypatch.setattr("random.random", lambda: 0.0)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS orders, cursors, mails")
        connection.execute(recipe.SCHEMA)
    return recipe


# The consumer has looked for orders and found none, or none yet.
PARKED = (
    "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'mailer' AND state = 'idle' AND query = 'COMMIT')"
)


class Shop:
    """Who places orders, and counts what came of them."""

    def __init__(self, connection):
        self._connection = connection

    async def order(self, count):
        """Place so many orders, each in a transaction of its own."""
        for _ in range(count):
            await self._connection.execute("INSERT INTO orders (item) VALUES ('a book')")

    async def wait_until(self, condition):
        while not await self.look_up(f"SELECT {condition}"):
            await asyncio.sleep(0.01)

    async def look_up(self, query):
        [value] = await (await self._connection.execute(query)).fetchone()
        return value

    async def wait_until_handled(self, count):
        await self.wait_until(f"(SELECT count(*) FROM mails) >= {count}")

    async def wait_until_parked(self):
        """Wait until the consumer has handled all there is and waits for a knock."""
        await self.wait_until(f"(SELECT count(*) FROM orders) = (SELECT count(*) FROM mails) AND {PARKED}")

    async def kill_connections(self):
        """Terminate the connections of the consumer, and return how many there were."""
        return await self.look_up(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'mailer'"
        )

    async def compare(self):
        """Return how many orders there are, and which were mailed another number of times than once."""
        wrong = await self._connection.execute(
            "SELECT id, count(order_id) FROM orders FULL JOIN mails ON id = order_id "
            "GROUP BY id HAVING count(*) <> 1 OR count(order_id) <> 1 ORDER BY id"
        )
        return await self.look_up("SELECT count(*) FROM orders"), await wrong.fetchall()


def shop(server):
    """A shop on a connection of its own: ``async with await shop(server)``."""

    class Connected:
        async def __aenter__(self):
            self.connection = await psycopg.AsyncConnection.connect(server.dsn, autocommit=True)
            return Shop(self.connection)

        async def __aexit__(self, *exc):
            await self.connection.close()

    return Connected()


def restarts(events):
    return [event for event in events if type(event).__name__ == "AttemptFailed"]


async def test_orders_placed_while_the_connection_was_killed_are_handled_at_the_reconnection(server, recipe):
    """pg_terminate_backend, twice, while it waits for a knock: the knocks of that time are lost, and no order is."""
    with record_events() as events:
        async with shop(server) as its, task_scope() as scope:
            scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
            for _ in range(2):
                await its.order(20)
                await its.wait_until_parked()
                assert await its.kill_connections() == 1
                await its.order(20)
            await its.wait_until_handled(80)

            assert await its.compare() == (80, [])

    assert len(restarts(events)) == 2


async def test_a_connection_killed_between_the_handler_and_the_cursor_doubles_nothing(server, recipe):
    """What the handler did goes with the cursor's move: the orders of the broken transaction are handled anew."""
    calls = []

    async def mail(connection, order):
        await recipe.mail(connection, order)
        calls.append(order.id)
        if len(calls) in (3, 17):
            # It hears of its own end before the next statement.
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with record_events() as events:
        async with shop(server) as its, task_scope() as scope:
            await its.order(50)
            scope.launch(recipe.consume(server.dsn, "mailer", mail))
            await its.wait_until_handled(50)

            assert await its.compare() == (50, [])

    assert len(restarts(events)) == 2
    assert len(calls) == 3 + (17 - 3) + 50, "those of the first two transactions were handled in vain"


@pytest.mark.parametrize("how", ["IN_ORDER", "AT_ONCE"])
async def test_the_consumer_outlives_a_restart_of_the_server(server, recipe, how):
    """In order or by a crash, in the middle of its work: it comes back with the server, and goes on where it was."""
    with record_events() as events:
        async with task_scope() as scope:
            scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
            async with shop(server) as its, shop(server) as owner:
                placing = asyncio.ensure_future(its.order(1_000_000))
                await owner.wait_until_handled(50)
                await asyncio.to_thread(server.restart, getattr(server, how))
                with pytest.raises(psycopg.OperationalError):
                    await placing
            async with shop(server) as its:
                await its.order(20)
                await its.wait_until_parked()
                count, wrong = await its.compare()

    assert wrong == []
    assert count >= 70, "what was committed before the server went down is there"
    assert restarts(events)


async def test_a_transaction_that_commits_late_is_not_passed_over(server, recipe):
    """Its order has the smaller number and is seen later: a cursor on the numbers alone would have left it behind."""
    async with shop(server) as its, await psycopg.AsyncConnection.connect(server.dsn) as slow, task_scope() as scope:
        handling = scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
        await its.order(1)
        await its.wait_until_parked()
        await slow.execute("INSERT INTO orders (item) VALUES ('from a slow transaction')")
        await its.order(2)
        before = await its.look_up("SELECT clock_timestamp()")
        await its.order(1)
        await its.wait_until(PARKED.replace(")", f" AND query_start > '{before}')"))
        assert await its.compare() == (4, [(3, 0), (4, 0), (5, 0)])

        await slow.commit()
        await its.wait_until_handled(5)

        assert await its.compare() == (5, [])
        assert await its.look_up("SELECT array_agg(order_id) FROM mails") == [1, 2, 3, 4, 5]
        assert not handling.done()


async def test_transactions_are_counted_as_numbers(server, recipe):
    """The tenth comes after the ninth, though not in an alphabet."""
    async with shop(server) as its, task_scope() as scope:
        await its.order(2)
        await its.look_up("WITH old AS (UPDATE orders SET xid = (11 - id)::text::xid8) SELECT 1")
        scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
        await its.wait_until_handled(2)

        assert await its.look_up("SELECT array_agg(order_id) FROM mails") == [2, 1]


async def test_two_consumers_of_one_name_share_the_work(server, recipe):
    """As during a deployment: the cursor is held by one at a time, so each order is handled by one of them."""
    async with shop(server) as its, task_scope() as scope:
        for _ in range(2):
            scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
        await its.order(200)
        await its.wait_until_handled(200)
        await its.wait_until_parked()

        assert await its.compare() == (200, [])


async def test_an_order_that_cannot_be_handled_ends_the_program_and_stays(server, recipe):
    """A mistake in the handler is no trouble of the connection: its error propagates, and the order is not lost."""

    async def mail(connection, order):
        raise ValueError(order.item)

    async with shop(server) as its:
        await its.order(1)
        with pytest.raises(ValueError, match="a book"):
            await recipe.consume(server.dsn, "mailer", mail)

        assert await its.compare() == (1, [(1, 0)])


def test_the_program_places_orders_and_mails_them(server, recipe):
    """It makes its tables, works, ends when told to, and starts again where it was."""
    for _ in range(2):
        log = run_recipe("postgres_listen.py", server.dsn, "--seconds", "0.9")

        # As many as there was time for: on a busy machine the last one may be left for the next start.
        assert re.search(r" 0\.9 seconds are over: \d orders, \d mails$", log, re.MULTILINE)


async def test_its_log_says_what_happened(server, recipe, caplog):
    """Each restart is one line, with the delay until then."""
    caplog.set_level(logging.INFO, "async_plus")
    async with shop(server) as its, task_scope() as scope:
        scope.launch(recipe.consume(server.dsn, "mailer", recipe.mail))
        await its.order(1)
        await its.wait_until_parked()
        await its.kill_connections()
        await its.order(1)
        await its.wait_until_parked()

    [ready, failed, again, stopped] = [record.getMessage() for record in caplog.records if record.name == "async_plus"]
    assert ready.startswith("consume is ready after ")
    assert failed.startswith("consume failed after ")
    # It is told so, or finds the connection closed, whatever comes first.
    assert failed.endswith((" with AdminShutdown, restart 1 in 0.0 s", " with OperationalError, restart 1 in 0.0 s"))
    assert again.startswith("consume is ready after ")
    assert again.endswith(" s, attempt 2")
    assert stopped == "consume stopped, attempt 2"
