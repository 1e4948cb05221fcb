"""`async_plus.prometheus`: what a scrape sees, through a real HTTP exposition."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import threading
import urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.parser import text_string_to_metric_families
from tools import Boom, forever, refused, turns

import async_plus.prometheus
from async_plus import Supervisor, cancel_and_wait, impatient, supervised, task_scope, watch_loop
from async_plus.diagnostics import loop_watch
from async_plus.engine.per_loop import per_loop
from async_plus.prometheus import SupervisionCollector
from async_plus.supervision import tally

default = pytest.mark.asyncio(loop_factories=["default"])


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
async def scrape():
    """Scrapes this loop's collector over HTTP, from another thread, and parses the answer."""
    registry = CollectorRegistry()
    registry.register(SupervisionCollector())
    server = make_server("127.0.0.1", 0, make_wsgi_app(registry), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def get():
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    yield get
    server.shutdown()
    server.server_close()
    thread.join()


def of(samples, name):
    """The values of one metric by their labels."""
    return {labels[0] if labels else None: value for (key, *labels), value in samples.items() if key == name}


class TestScrape:
    async def test_an_idle_program_has_tasks_and_no_more(self, scrape):
        """What there is none of is missing, or 0."""
        samples = await asyncio.to_thread(scrape)

        assert samples == {("async_plus_long_waits",): 0, ("async_plus_tasks",): len(asyncio.all_tasks())}

    async def test_services_are_up_down_and_restarted(self, scrape):
        """By their names. Those of one name are added up, and of their delays the longest counts."""
        failing = asyncio.Event()

        async def feed(fails):
            if fails:
                await failing.wait()
                raise Boom

            await forever()

        one = supervised(name="feed", delays=[1000])(feed)
        other = supervised(name="feed", delays=[2000])(feed)
        hosts = [asyncio.create_task(one(False)), asyncio.create_task(one(True)), asyncio.create_task(other(True))]
        await turns()
        before = await asyncio.to_thread(scrape)
        failing.set()
        await turns()
        after = await asyncio.to_thread(scrape)
        await cancel_and_wait(*hosts)
        ended = await asyncio.to_thread(scrape)

        assert of(before, "async_plus_service_up") == {"feed": 3}
        assert of(before, "async_plus_service_restarts_total") == {"feed": 0}
        assert of(before, "async_plus_service_backoff_seconds") == {"feed": 0}
        assert of(after, "async_plus_service_up") == {"feed": 1}
        assert of(after, "async_plus_service_restarts_total") == {"feed": 2}
        assert 1000 < of(after, "async_plus_service_backoff_seconds")["feed"] <= 2000
        # A counter must never go back. The gauges are gone with the services.
        assert of(ended, "async_plus_service_up") == {}
        assert of(ended, "async_plus_service_restarts_total") == {"feed": 2}

    async def test_children_of_supervisors_are_services_too(self, scrape):
        """With their restarts, which outlive them."""
        fails = iter([True, False])

        async def till():
            if next(fails):
                raise Boom
            await forever()

        async with Supervisor("shop") as sup:
            await sup.start(supervised(delays=[0])(till), name="till")
            restarts, up = {"till": 0}, {}
            while restarts == {"till": 0} or not up["till"]:
                samples = await asyncio.to_thread(scrape)
                restarts, up = of(samples, "async_plus_service_restarts_total"), of(samples, "async_plus_service_up")
        assert (restarts, up) == ({"till": 1}, {"till": 1})
        assert of(await asyncio.to_thread(scrape), "async_plus_service_restarts_total") == {"till": 1}

    async def test_long_waits_and_tasks_are_counted(self, scrape):
        """A wait counts from its first complaint to its end."""
        future = asyncio.get_running_loop().create_future()
        other = asyncio.create_task(impatient(forever(), log_after=1000))
        task = asyncio.create_task(impatient(future, log_after=0.001))
        while not of(during := await asyncio.to_thread(scrape), "async_plus_long_waits")[None]:
            pass
        assert of(during, "async_plus_long_waits") == {None: 1}
        assert of(during, "async_plus_tasks") == {None: len(asyncio.all_tasks())}
        future.set_result(None)
        await task
        assert of(await asyncio.to_thread(scrape), "async_plus_long_waits") == {None: 0}
        await cancel_and_wait(other)

    async def test_a_loop_that_is_blocked_is_scraped_too(self, scrape, monkeypatch):
        """Its lag is that of this moment, and the services are as they were before."""
        monkeypatch.setattr("async_plus.diagnostics.ask.PATIENCE", 0.01)
        host = asyncio.create_task(supervised(name="feed")(forever)())
        with watch_loop(0.02) as watch:
            await turns()
            before = of({}, "")
            while before != {"feed": 1}:
                before = of(await asyncio.to_thread(scrape), "async_plus_service_up")
            samples = []
            while not samples or not of(samples[-1], "async_plus_loop_lag_seconds")[None]:
                watch._lag = 0
                thread = threading.Thread(target=lambda: samples.append(scrape()))
                thread.start()
                thread.join()  # the loop is blocked until the scrape is over
        await cancel_and_wait(host)
        assert of(samples[-1], "async_plus_service_up") == {"feed": 1}

    async def test_the_lag_is_the_longest_of_the_watches(self, scrape, monkeypatch):
        """Each has a heartbeat of its own."""
        monkeypatch.setattr(loop_watch.LoopWatch, "lag", property(lambda watch: watch.threshold))
        with watch_loop(5), watch_loop(3):
            samples = await asyncio.to_thread(scrape)
        assert of(samples, "async_plus_loop_lag_seconds") == {None: 5}


class TestLabels:
    async def test_attempts_and_tasks_add_no_labels(self, scrape):
        """A thousand tasks of one service have its name only."""
        feed = supervised(name="feed")(forever)
        async with task_scope() as scope:
            for number in range(50):
                scope.launch(feed(), name=f"feed of {number}")
            await turns()
            samples = await asyncio.to_thread(scrape)
            scope.cancel()
        assert of(samples, "async_plus_service_up") == {"feed": 50}

    async def test_a_name_that_is_no_text_costs_no_scrape(self, scrape):
        """A lone surrogate stands for a byte of a file name, say, and cannot be sent. The rest is sent as it is."""
        names = ["feed of caf\udce9", 'a "b"\n\\c', "100% é", ""]

        async def fail():
            raise Boom

        tasks = [asyncio.create_task(supervised(name=name, delays=[1000])(fail)()) for name in names]
        await turns()

        samples = await asyncio.to_thread(scrape)

        # An empty name is none.
        labels = ["feed of caf\\udce9", 'a "b"\n\\c', "100% é", fail.__qualname__]
        assert of(samples, "async_plus_service_up") == dict.fromkeys(labels, 0)
        assert of(samples, "async_plus_service_restarts_total") == dict.fromkeys(labels, 1)
        await cancel_and_wait(*tasks)

    async def test_names_that_are_made_up_share_one_label(self, scrape, monkeypatch):
        """From a number on that no program declares."""
        monkeypatch.setattr(tally, "MOST", 3)
        monkeypatch.setattr(async_plus.prometheus, "MOST", 3)

        async def fail_once(failed):
            if not failed:
                failed.append(True)
                raise Boom
            await forever()

        async with Supervisor("shop") as sup:
            for number in range(5):
                await sup.start(supervised(delays=[0])(fail_once), [], name=f"job {number}")
            restarts = up = {}
            while sum(restarts.values()) < 5 or sum(up.values()) < 5:
                samples = await asyncio.to_thread(scrape)
                restarts, up = of(samples, "async_plus_service_restarts_total"), of(samples, "async_plus_service_up")
        assert restarts.keys() == up.keys()
        # Nor are they kept one by one.
        assert len(per_loop(asyncio.get_running_loop(), tally.Tally).restarts) == 4
        assert len(up) == 4
        assert up["(others)"] == 2


class TestThreads:
    @default
    async def test_a_loop_that_is_busy_is_scraped_without_an_error(self):
        """Tasks and services come and go while the collector looks at them from another thread."""
        collector = SupervisionCollector()
        done = threading.Event()
        seen = []

        def scrape_on():
            try:
                for _ in range(100):
                    seen.append({sample.name for metric in collector.collect() for sample in metric.samples})
            finally:
                done.set()

        async def feed():
            await asyncio.sleep(0)
            raise Boom

        service = supervised(name="feed", delays=[0], max_restarts=2)(feed)
        scraping = asyncio.create_task(asyncio.to_thread(scrape_on))
        while not done.is_set():
            hosts = [asyncio.create_task(service()) for _ in range(50)]
            waits = [asyncio.create_task(impatient(asyncio.sleep(0), log_after=5)) for _ in range(50)]
            await asyncio.wait(hosts + waits)
            assert {type(host.exception()) for host in hosts} == {Boom}
        await scraping
        assert len(seen) == 100


class TestCollector:
    @default
    async def test_a_registry_gets_to_know_the_metrics_without_a_look(self):
        """So that a second collector in the same registry is refused."""
        registry = CollectorRegistry()
        registry.register(SupervisionCollector())
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(SupervisionCollector())

    def test_a_loop_that_has_ended_has_nothing_to_tell(self):
        """It is not kept alive either."""

        async def main():
            return SupervisionCollector()

        loop = asyncio.new_event_loop()
        collector = loop.run_until_complete(main())
        loop.close()
        assert [metric.samples for metric in collector.collect()] == [[]] * 6
        del loop
        gc.collect()
        assert collector._loop() is None
        assert [metric.samples for metric in collector.collect()] == [[]] * 6

    def test_it_needs_a_loop(self):
        """The one that runs, or one that is given."""
        fix = "make it in a coroutine, or pass the loop"
        with refused(RuntimeError, f"SupervisionCollector() needs an event loop, but none is running here: {fix}"):
            SupervisionCollector()
        with refused(TypeError, "loop must be an event loop, got int 5"):
            SupervisionCollector(5)
        loop = asyncio.new_event_loop()
        assert SupervisionCollector(loop)._loop() is loop
        loop.close()

    def test_without_prometheus_client_the_import_tells_what_to_install(self, monkeypatch):
        """It is an extra."""
        monkeypatch.delitem(sys.modules, "async_plus.prometheus")
        monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
        what = "async_plus.prometheus needs prometheus_client: pip install async_plus[prometheus]"
        with refused(ModuleNotFoundError, what):
            importlib.import_module("async_plus.prometheus")
