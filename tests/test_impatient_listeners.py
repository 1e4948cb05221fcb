"""`await impatient(...)`: what listeners and log handlers get, and what they never do."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import weakref

import pytest
from places import place
from tools import Awaitable, Boom, fail, give, messages, site_of, turns
from waits import CRAWL, FETCH, crawl, fetch, later, registers, waiting

from async_plus import Place, impatient, subscribe

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


request_id = contextvars.ContextVar("request_id", default="-")


@virtual
class TestContext:
    """Records come in the context of the task that waits, so that request ids are right."""

    @pytest.fixture(autouse=True)
    def request_ids(self, caplog):
        """A filter that stamps each record with the current request, as web applications have one."""

        def stamp(record):
            record.request_id = request_id.get()
            return True

        caplog.handler.addFilter(stamp)
        yield
        caplog.handler.removeFilter(stamp)

    async def test_each_of_two_requests_complains_with_its_own_id(self, caplog):
        """One timer serves both, and belongs to neither."""

        async def handle(number, seconds):
            request_id.set(number)
            await crawl(seconds)

        await asyncio.gather(handle("a", 6), handle("b", 7), handle("c", 8))

        assert [record.request_id for record in caplog.records] == ["a", "b", "c", "a", "b", "c"]

    async def test_each_complaint_has_the_id_and_the_line_of_its_own_request(self, caplog):
        """In the text and in the record: two requests at once that wait at different lines, one complaint each."""

        async def read_prices():
            return await impatient(fetch(6), log_after=5)

        async def read_orders():
            return await impatient(fetch(7), log_after=5)

        async def handle(number, read):
            request_id.set(number)
            await read()

        await asyncio.gather(handle("a", read_prices), handle("b", read_orders))

        prices, orders = place(read_prices, "await impatient"), place(read_orders, "await impatient")
        told = [(record.request_id, Place(*site_of(record)), record.getMessage()) for record in caplog.records]
        assert told == [
            ("a", prices, f"Still waiting for fetch after 5.0 s at {prices}; parked at {FETCH} on sleep, 1.0 s left"),
            ("b", orders, f"Still waiting for fetch after 5.0 s at {orders}; parked at {FETCH} on sleep, 2.0 s left"),
            ("a", prices, f"fetch at {prices} returned after 6.0 s"),
            ("b", orders, f"fetch at {orders} returned after 7.0 s"),
        ]

    async def test_an_id_set_during_the_wait_is_seen_where_a_task_can_be_asked(self, caplog):
        """From 3.12 on it is the task's context of the moment, before that the one in which the wait began."""

        async def login():
            request_id.set("inside")
            await asyncio.sleep(6)

        request_id.set("outside")
        await impatient(login(), log_after=5)

        complaint = "inside" if sys.version_info >= (3, 12) else "outside"
        assert [record.request_id for record in caplog.records] == [complaint, "inside"]

    async def test_what_a_log_handler_sets_does_not_reach_the_task(self, caplog):
        """It runs in a copy of the task's context."""

        def meddle(record):
            request_id.set("meddled")
            return True

        request_id.set("own")
        caplog.handler.addFilter(meddle)
        await crawl(6, log_completion="never")
        caplog.handler.removeFilter(meddle)

        assert request_id.get() == "own"
        assert len(caplog.records) == 1

    async def test_the_timer_keeps_no_context_alive(self):
        """Whoever sets it is gone long before the last wait ends."""

        class Session:
            pass

        async def handle():
            session = Session()
            variable.set(session)
            await impatient(give(1), log_after=5)
            return weakref.ref(session)

        variable = contextvars.ContextVar("session")
        session = await asyncio.create_task(handle())
        await turns()

        assert registers()[5].timer is not None
        assert session() is None


@virtual
class TestBrokenListeners:
    """Whoever listens and fails never breaks what it listens to."""

    async def test_a_subscriber_that_raises_does_not_touch_the_wait(self, caplog):
        """It is reported once; complaints and the end go on."""

        def broken(event):
            raise Boom

        unsubscribe = subscribe(broken)
        try:
            assert await crawl(16, "result") == "result"
        finally:
            unsubscribe()

        assert [text.partition(" after")[0] for level, text in messages(caplog) if level == "WARNING"] == [
            "Still waiting for fetch",
            "Still waiting for fetch",
            f"fetch at {CRAWL} returned",
        ]
        assert [level for level, _ in messages(caplog)].count("ERROR") == 1

    async def test_a_log_handler_that_raises_does_not_touch_the_wait(self, caplog):
        """The complaints go on, and so does the wait."""

        class Broken(logging.Handler):
            def emit(self, record):
                asked.append(record.getMessage().partition(" at ")[0])
                raise Boom

        asked = []
        handler = Broken()
        logging.getLogger("async_plus").addHandler(handler)
        try:
            assert await crawl(16, "result") == "result"
        finally:
            logging.getLogger("async_plus").removeHandler(handler)

        assert [text for text in asked if "fetch" in text] == [
            "Still waiting for fetch after 5.0 s",
            "Still waiting for fetch after 15.0 s",
            "fetch",
        ]
        assert waiting() == {}

    async def test_an_interrupt_out_of_a_listener_does_not_stop_the_complaints(self):
        """Ctrl-C lands anywhere. The timer that was under way is set again, and the other waits are told of."""

        def interrupted(event):
            if not told:
                told.append("interrupt")
                raise KeyboardInterrupt
            told.append(event.awaited)

        told = []
        # In a loop of its own: the interrupt ends the run of a loop.
        loop = type(asyncio.get_running_loop())

        def run():
            with asyncio.Runner(loop_factory=loop) as runner:
                unsubscribe = subscribe(interrupted)
                first = runner.get_loop().create_task(impatient(fetch(6), log_after=5, log_completion="never"))
                second = runner.get_loop().create_task(impatient(give_late(), log_after=5, log_completion="never"))
                try:
                    with pytest.raises(KeyboardInterrupt):
                        runner.get_loop().run_until_complete(first)
                    runner.get_loop().run_until_complete(asyncio.wait([first, second]))
                finally:
                    unsubscribe()

        async def give_late():
            await asyncio.sleep(6)

        await asyncio.to_thread(run)

        assert told == ["interrupt", give_late.__qualname__]


SECRET = "swordfish"


class Secretive:
    """An object that shows a secret in every text it has."""

    def __init__(self, password=SECRET):
        self.password = password

    def __repr__(self):
        return f"<Secretive {self.password}>"

    __str__ = __repr__

    def __format__(self, spec):
        return repr(self)


class SecretError(Exception):
    def __str__(self):
        return SECRET

    __repr__ = __str__


class SecretFuture(asyncio.Future):
    def __repr__(self):
        return SECRET


@virtual
class TestNoSecrets:
    """Names and types are logged; arguments, results, and the texts of exceptions and objects are not."""

    @pytest.mark.parametrize("outcome", [Secretive(), SecretError(SECRET), asyncio.CancelledError(SECRET)])
    async def test_no_record_shows_an_argument_a_result_or_an_exceptions_text(self, outcome, caplog):
        """Not in its message, not in its arguments, not in its extras."""

        async def login(password, *, options):
            await secrets.get()
            return outcome if isinstance(outcome, Secretive) else await fail(outcome)

        secrets = asyncio.Queue()
        later(16, secrets.put_nowait, Secretive())
        await asyncio.gather(
            impatient(login(SECRET, options={SECRET: Secretive()}), log_after=5, log_completion="always"),
            return_exceptions=True,
        )

        assert len(caplog.records) == 3
        for record in caplog.records:
            assert SECRET not in repr(vars(record))
            assert SECRET not in logging.Formatter("%(message)s %(args)s").format(record)

    @pytest.mark.parametrize("make", [SecretFuture, lambda: Awaitable(SecretFuture())])
    async def test_no_record_shows_the_repr_of_what_is_awaited(self, make, caplog):
        """A future's repr shows its result."""
        awaited = make()
        future = getattr(awaited, "coroutine", awaited)
        later(6, future.set_result, Secretive())

        await impatient(awaited, log_after=5, log_completion="always")

        assert len(caplog.records) == 2
        assert all(SECRET not in repr(vars(record)) for record in caplog.records)

    async def test_no_record_shows_the_result_of_a_task(self, caplog):
        """repr(task) shows results and the texts of exceptions."""

        async def login():
            await asyncio.sleep(6)
            raise SecretError(SECRET)

        task = asyncio.create_task(login(), name="login")
        await asyncio.gather(impatient(task, log_after=5), return_exceptions=True)

        assert len(caplog.records) == 2
        assert all(SECRET not in repr(vars(record)) for record in caplog.records)
