"""What `run` tells the service manager: that it is ready, that it lives, that it stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time

import pytest
from loops import each_virtual_loop
from runs import TERM, tell_to_stop
from tools import forever, messages

import async_plus
from async_plus import heartbeat, ready, run, supervised, task_scope
from async_plus.testing import VirtualClockLoop

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Windows knows no such sockets")

# The loops are virtual ones, on which a sleep, however short, lets everything else run as far as it can.


class Manager(socket.socket):
    """The other end of the protocol."""

    def __init__(self, address):
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.bind(address)
        self.setblocking(False)

    def told(self):
        """All that has come so far."""
        found = []
        while True:
            try:
                found.append(self.recv(4096).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A manager, whose address is in the environment."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@async_plus-{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with Manager(name.replace("@", "\0")) as manager:
        yield manager


@each_virtual_loop
def test_it_is_told_of_the_start_and_of_the_stop(loop_factory, manager):
    """The stop first thing, before anything is cancelled. The environment stays as it is for children."""

    async def main():
        assert manager.told() == []
        await asyncio.sleep(0.01)
        log.append(manager.told())
        tell_to_stop()
        log.append(manager.told())
        await forever()

    log = []
    with pytest.raises(SystemExit):
        run(main, loop_factory=loop_factory)
    assert log == [["READY=1"], ["STOPPING=1"]]
    assert manager.told() == []
    assert "NOTIFY_SOCKET" in os.environ


@each_virtual_loop
def test_a_main_that_returns_has_stopped_as_well(loop_factory, manager):
    """Before what is left is stopped."""

    async def left():
        try:
            await forever()
        finally:
            log.append(manager.told())

    async def main():
        async_plus.launch_watched(left())
        await asyncio.sleep(0.01)

    log = []
    run(main, loop_factory=loop_factory)
    assert log == [["READY=1", "STOPPING=1"]]


@each_virtual_loop
def test_an_exit_in_a_task_stops_it_as_well(loop_factory, manager):
    """It is told before main is cancelled."""

    async def main():
        asyncio.get_running_loop().call_later(0.01, sys.exit, 3)
        try:
            await forever()
        finally:
            log.append(manager.told())

    log = []
    with pytest.raises(SystemExit):
        run(main, loop_factory=loop_factory)
    assert log == [["READY=1", "STOPPING=1"]]


@each_virtual_loop
def test_a_main_that_declares_its_readiness_is_ready_when_it_says_so(loop_factory, manager):
    """Not before, however long that takes."""

    @supervised(ready=True)
    async def main():
        await asyncio.sleep(0.01)
        log.append(manager.told())
        ready()
        log.append(manager.told())

    log = []
    run(main, loop_factory=loop_factory)
    assert log == [[], ["READY=1"]]


@each_virtual_loop
def test_it_is_ready_when_all_that_was_declared_is(loop_factory, manager):
    """By the first moment that nothing can run: services that main has started by then."""

    @supervised(ready=True)
    async def service(seconds):
        await asyncio.sleep(seconds)
        ready()
        await forever()

    async def main():
        async with task_scope() as scope:
            for number in range(3):
                await asyncio.sleep(0)
                scope.launch(service(0.01 * (number + 1)))
            await asyncio.sleep(0.02)
            log.append(manager.told())
            while not log[-1]:
                await asyncio.sleep(0.001)
                log.append(manager.told())

    log = []
    run(main, loop_factory=loop_factory)
    assert log[0] == []
    assert log[-1] == ["READY=1"]


def test_a_task_that_never_waits_does_not_keep_it_from_being_ready(manager):
    """There may be no idle moment at all."""

    async def main():
        while not log:
            await asyncio.sleep(0)
            log.extend(manager.told())

    log = []
    run(main)
    assert log == ["READY=1"]


@each_virtual_loop
def test_a_program_that_is_stopped_before_it_was_ready_is_not_ready_any_more(loop_factory, manager):
    """Its services may end in the stop, which makes nobody ready."""

    @supervised(ready=True)
    async def main():
        asyncio.get_running_loop().call_later(0.01, tell_to_stop)
        await forever()

    with pytest.raises(SystemExit):
        run(main, loop_factory=loop_factory)
    assert manager.told() == ["STOPPING=1"]


class TestWatchdog:
    """That it lives is told at half the interval that the manager allows."""

    def run_for(self, seconds, manager, monkeypatch, **env):
        for key, value in {"WATCHDOG_USEC": "20000000", **env}.items():
            monkeypatch.setenv(key, value)

        async def main():
            await asyncio.sleep(seconds)

        run(main, loop_factory=VirtualClockLoop)
        return manager.told()

    @pytest.mark.parametrize("process", [{}, {"WATCHDOG_PID": str(os.getpid())}])
    def test_it_is_told_in_time(self, manager, monkeypatch, process):
        """Every 10 seconds if 20 are allowed."""
        told = self.run_for(35, manager, monkeypatch, **process)

        assert told == ["READY=1", *["WATCHDOG=1"] * 3, "STOPPING=1"]

    @pytest.mark.parametrize(
        "env", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": ""}]
    )
    def test_it_is_not_told_if_nobody_wants_to_know(self, manager, monkeypatch, env):
        """Another process is meant, or no interval is given."""
        assert self.run_for(35, manager, monkeypatch, **env) == ["READY=1", "STOPPING=1"]

    def test_it_is_not_told_while_a_heartbeat_is_overdue(self, manager, monkeypatch):
        """A program whose service hangs does not live."""
        monkeypatch.setenv("WATCHDOG_USEC", "20000000")
        log = []

        async def hang():
            """Hang for a while, cleanup and all."""
            heartbeat()
            try:
                await asyncio.sleep(25)
            finally:
                log.extend(manager.told())
                await asyncio.sleep(20)
                log.append("ends")
                log.extend(manager.told())

        async def main():
            async with task_scope() as scope:
                scope.launch(supervised(heartbeat=15, restart="never")(hang)())
                await asyncio.sleep(60)

        run(main, loop_factory=VirtualClockLoop)
        assert log == ["READY=1", "WATCHDOG=1", "ends"]
        assert "WATCHDOG=1" in manager.told()


@each_virtual_loop
def test_a_manager_that_is_gone_is_reported_once(loop_factory, manager, monkeypatch, caplog, tmp_path):
    """And nothing else comes of it."""
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/nobody")

    async def main():
        await asyncio.sleep(0.01)
        return 1

    assert run(main, loop_factory=loop_factory) == 1
    assert messages(caplog) == [
        ("WARNING", "cannot tell the service manager READY=1: No such file or directory"),
    ]


def flood(manager):
    """Fill the manager's socket, so that sending to it would block."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                others.sendto(b"x", manager.getsockname())


def test_a_manager_that_is_busy_is_not_waited_for(manager, caplog):
    """Its socket is full."""
    flood(manager)

    async def main():
        return 1

    assert run(main) == 1
    assert messages(caplog) == [
        ("WARNING", "cannot tell the service manager STOPPING=1: Resource temporarily unavailable")
    ]


@each_virtual_loop
def test_a_manager_that_was_busy_is_told_again_that_it_is_ready(loop_factory, manager, caplog):
    """Once, when it has read what was there before. It would wait for that, and then end the program."""
    flood(manager)

    async def main():
        await asyncio.sleep(60)
        assert set(manager.told()) == {"x"}
        await asyncio.sleep(60)
        return manager.told()

    assert run(main, loop_factory=loop_factory) == ["READY=1"]
    assert messages(caplog) == [
        ("WARNING", "cannot tell the service manager READY=1: Resource temporarily unavailable")
    ]


@each_virtual_loop
def test_a_manager_that_is_busy_until_the_stop_is_told_of_that_only(loop_factory, manager, caplog):
    """The program is not ready any more."""
    flood(manager)

    async def main():
        await asyncio.sleep(60)
        assert set(manager.told()) == {"x"}
        tell_to_stop()
        await forever()

    with pytest.raises(SystemExit):
        run(main, loop_factory=loop_factory)
    assert manager.told() == ["STOPPING=1"]


def test_another_thread_tells_nothing(manager):
    """The program is what the main thread runs."""
    thread = threading.Thread(target=run, args=[asyncio.sleep, 0.01])
    thread.start()
    thread.join()

    assert manager.told() == []


def test_a_process_tells_it_all(start_program, manager, tmp_path):
    """The whole protocol, from outside; a blocked loop, too, says that it stops."""
    flag = tmp_path / "flag"
    program = start_program(f"""
        async def main():
            while not os.path.exists({str(flag)!r}):
                await asyncio.sleep(0.001)
            report()
            block()

        run(main, grace=0.2)
    """)
    manager.setblocking(True)
    assert manager.recv(4096) == b"READY=1"
    manager.setblocking(False)
    flag.touch()

    assert program.signalled(TERM)[0] == 70
    assert manager.told() == ["STOPPING=1"]
