"""Metrics of supervision for Prometheus. It needs ``pip install async_plus[prometheus]``.

    from prometheus_client import REGISTRY, start_http_server

    async def main():
        REGISTRY.register(SupervisionCollector())
        start_http_server(9100)
        ...

Each scrape asks the loop, and gets an answer while that is blocked, too: what can be seen from its own thread is up to
date, and the services are as they were at the scrape before.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator

from async_plus.diagnostics.ask import ask, checked_loop, read_while_changing
from async_plus.diagnostics.health import all_services
from async_plus.diagnostics.loop_watch import watches_of
from async_plus.diagnostics.parts import ServiceInfo
from async_plus.engine.long_waits import Registers
from async_plus.engine.per_loop import peek
from async_plus.supervision.child import ChildState
from async_plus.supervision.tally import MOST, OTHERS, Tally

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as exc:
    raise ModuleNotFoundError(
        "async_plus.prometheus needs prometheus_client: pip install async_plus[prometheus]", name=exc.name
    ) from exc

__all__ = ["SupervisionCollector"]


class SupervisionCollector(Collector):
    """A collector for a `prometheus_client` registry: the services, waits, tasks and lag of one event loop.

    ``async_plus_service_up{name}``
        How many services of that name are running, and ready if they declare it: 0 or 1, if there is one.
    ``async_plus_service_restarts_total{name}``
        How often services of that name were restarted, those that are gone included.
    ``async_plus_service_backoff_seconds{name}``
        Seconds until the next restart, 0 if none is waited for; of several services the longest.
    ``async_plus_long_waits``
        Impatient waits in progress that were complained of.
    ``async_plus_tasks``
        Tasks that are not done.
    ``async_plus_loop_lag_seconds``
        How late the loop is, by its `watch_loop`; missing if there is none.

    The name is the one that a service is declared by: that of its ``@supervised(name=...)`` or ``Supervisor.start(...,
    name=...)``, or else of its function; never that of a task. After 1000 different names all others share the name
    ``(others)``. A service that has ended is no longer up or down: its gauges are gone, its restarts stay.

    Args:
        loop: The event loop: the running one by default. It is not kept alive.

    Raises:
        RuntimeError: No loop is given, and none is running in this thread.
        TypeError: *loop* is no event loop.

    .. versionadded:: 1.0
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        fix = "make it in a coroutine, or pass the loop"
        missing = f"SupervisionCollector() needs an event loop, but none is running here: {fix}"
        self._loop = weakref.ref(checked_loop(loop, missing))
        self._names: dict[str, None] = {}
        self._last: list[ServiceInfo] = []

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without their values: what a registry asks for, before there is anything to see."""
        return iter(_Metrics().all())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, from any thread."""
        metrics = _Metrics()
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            self._look_at(loop, metrics)
        return iter(metrics.all())

    def _look_at(self, loop: asyncio.AbstractEventLoop, metrics: _Metrics) -> None:
        restarts: dict[str, int] = {}
        up: dict[str, int] = {}
        backoff: dict[str, float] = {}
        services = ask(loop, lambda: [service for _, service in all_services(loop)])
        if services is not None:
            self._last = services
        for service in self._last:
            name = self._label(service.name)
            restarts.setdefault(name, 0)
            up[name] = up.get(name, 0) + (service.state == ChildState.RUNNING)
            backoff[name] = max(backoff.get(name, 0.0), service.restart_in or 0.0)
        # Afterwards, so that what was seen to wait for its restart has been counted.
        tally = peek(loop, Tally)
        for name, count in () if tally is None else tuple(tally.restarts.items()):
            name = self._label(name)
            restarts[name] = restarts.get(name, 0) + count
        for name, value in up.items():
            metrics.up.add_metric([name], value)
            metrics.backoff.add_metric([name], backoff[name])
        for name, value in restarts.items():
            metrics.restarts.add_metric([name], value)
        registers = peek(loop, Registers)
        metrics.long_waits.add_metric([], 0 if registers is None else read_while_changing(registers.count_long))
        metrics.tasks.add_metric([], len(asyncio.all_tasks(loop)))
        watches = watches_of(loop)
        if watches:
            metrics.lag.add_metric([], max(watch.lag for watch in watches))

    def _label(self, name: str) -> str:
        # That of a file, say, may hold bytes that are no text. They would cost the whole scrape.
        name = name.encode(errors="backslashreplace").decode()
        if name not in self._names and len(self._names) >= MOST:
            return OTHERS
        self._names[name] = None
        return name


class _Metrics:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        prefix = "async_plus_service"
        self.up = GaugeMetricFamily(f"{prefix}_up", "Services that are running and ready.", labels=["name"])
        self.restarts = CounterMetricFamily(f"{prefix}_restarts", "Restarts of services.", labels=["name"])
        self.backoff = GaugeMetricFamily(f"{prefix}_backoff_seconds", "Seconds until the restart.", labels=["name"])
        self.long_waits = GaugeMetricFamily("async_plus_long_waits", "Impatient waits that have become long.")
        self.tasks = GaugeMetricFamily("async_plus_tasks", "Tasks that are not done.")
        self.lag = GaugeMetricFamily("async_plus_loop_lag_seconds", "How late the event loop is.")

    def all(self) -> list[Metric]:
        return [self.up, self.restarts, self.backoff, self.long_waits, self.tasks, self.lag]
