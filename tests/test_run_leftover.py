"""What is left when main has ended: it is stopped in order, each task once, and no error is lost."""

from __future__ import annotations

import asyncio
import contextlib
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from loops import each_loop
from services import in_cleanup
from tools import Boom, fail_when_cancelled, forever, messages, turns

import async_plus
from async_plus import Supervisor, launch_watched, run, supervised, task_scope, try_gather

KEPT = []


@pytest.fixture(autouse=True)
def kept():
    """Whatever must stay alive until the loop ends."""
    KEPT.clear()
    yield
    KEPT.clear()


class Log(list):
    async def task(self, name, steps=1):
        """Wait for a cancellation, take some steps to stop, and note how many there were."""
        try:
            await forever()
        finally:
            try:
                await turns(steps)
            finally:
                self.append((name, asyncio.current_task().cancelling()))


def start(coroutine):
    KEPT.append(asyncio.create_task(coroutine))
    return KEPT[-1]


@pytest.fixture
def log():
    return Log()


@each_loop
def test_plain_and_watched_tasks_are_cancelled_and_waited_for(loop_factory, log):
    """Nobody else would stop them. That takes as long as it takes."""

    async def main():
        start(log.task("plain", 5))
        launch_watched(log.task("watched", 3))
        await turns()
        return 1

    assert run(main, loop_factory=loop_factory) == 1
    assert log == [("watched", 1), ("plain", 1)]


HOLDERS = {}


def holder(function):
    HOLDERS[function.__name__] = function
    return function


@holder
async def scope_in_its_exit(child):
    async with task_scope() as scope:
        scope.launch(child)
        await scope.wait()


@holder
async def scope_in_its_block(child):
    async with task_scope() as scope:
        scope.launch(child)
        await forever()


@holder
async def gather(child):
    await try_gather(child, forever())


@holder
async def stdlib_gather(child):
    await asyncio.gather(child)


@holder
async def task_group_in_its_block(child):
    async with asyncio.TaskGroup() as group:
        group.create_task(child)
        await forever()


@holder
async def task_group_in_its_exit(child):
    async with asyncio.TaskGroup() as group:
        group.create_task(child)


@holder
async def awaited_task(child):
    await asyncio.create_task(child)


@holder
async def supervised_service(child):
    await supervised(service_of(child))()


@holder
async def supervised_in_a_cleanup(child):
    await in_cleanup(supervised(service_of(child)))


@holder
async def supervisor_in_its_wait(child):
    async with Supervisor("tree") as sup:
        await sup.start(service_of(child))
        await sup.wait()


@holder
async def supervisor_in_its_block(child):
    async with Supervisor("tree") as sup:
        await sup.start(supervised(service_of(child)))
        await forever()


@holder
async def supervisor_in_a_start(child):
    async with Supervisor("tree") as sup:
        await sup.start(supervised(ready=True)(service_of(child)))


@holder
async def wait_for(child):
    await asyncio.wait_for(child, 600)


def service_of(child):
    async def service():
        await child

    return service


@each_loop
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_a_task_that_is_held_is_left_to_its_holder(loop_factory, log, hold):
    """It is cancelled once, by that. A second cancellation would break off its cleanup."""

    async def main():
        start(hold(log.task("child", 5)))
        await turns()

    run(main, loop_factory=loop_factory)
    assert log == [("child", 1)]


@each_loop
def test_what_is_held_only_by_itself_is_cancelled_in_the_end(loop_factory, log):
    """Tasks that wait for each other, and those of a scope that nobody will leave."""

    async def wait_for_partner(number):
        await asyncio.sleep(0)
        try:
            await asyncio.wait([pair[number]])
        finally:
            log.append((number, asyncio.current_task().cancelling()))

    async def main():
        pair.append(start(wait_for_partner(1)))
        pair.append(start(wait_for_partner(0)))
        scope = await task_scope().__aenter__()
        KEPT.append(scope)
        scope.launch(log.task("orphan"))
        start(log.task("free"))
        await turns()

    pair = []
    run(main, loop_factory=loop_factory)
    assert log[0] == ("free", 1)
    assert sorted(log[1:], key=str) == [("orphan", 1), (0, 1), (1, 1)]


@each_loop
def test_what_is_started_on_the_way_out_is_stopped_too(loop_factory, log):
    """By a cleanup, or by an asynchronous generator that is closed."""

    async def starts_another():
        try:
            await forever()
        finally:
            start(log.task("second"))

    async def generate():
        try:
            yield 1
        finally:
            start(log.task("third"))
            await turns()

    async def main():
        start(starts_another())
        KEPT.append(generate())
        await anext(KEPT[-1])
        await turns()

    run(main, loop_factory=loop_factory)
    assert log == [("second", 1), ("third", 1)]


@each_loop
def test_a_generator_that_is_left_open_is_closed(loop_factory):
    """Its cleanup runs, and may await."""
    log = []

    async def generate():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def main():
        KEPT.append(generate())
        await anext(KEPT[-1])

    run(main, loop_factory=loop_factory)
    assert log == ["closed"]


@each_loop
def test_an_error_in_a_cleanup_is_logged_once(loop_factory, caplog):
    """That of a watched task by its watcher, that of another one by us."""

    async def main():
        launch_watched(fail_when_cancelled(Boom(), "watched"))
        start(fail_when_cancelled(Boom(), "plain"))
        await turns()

    run(main, loop_factory=loop_factory)
    logged = [(level, message.partition(", launched")[0]) for level, message in messages(caplog)]
    assert sorted(logged) == [
        ("ERROR", "task 'plain' failed with Boom, not raised by run: it ends otherwise"),
        ("ERROR", "task 'watched' failed with Boom"),
    ]


@each_loop
def test_an_error_of_what_a_generator_has_started_is_logged_once_too(loop_factory, caplog):
    """Although it starts when everything else has stopped."""

    async def generate():
        try:
            yield 1
        finally:
            start(fail_when_cancelled(Boom(), "late"))
            await turns()

    async def main():
        KEPT.append(generate())
        await anext(KEPT[-1])

    run(main, loop_factory=loop_factory)
    assert messages(caplog) == [("ERROR", "task 'late' failed with Boom, not raised by run: it ends otherwise")]


@each_loop
def test_a_cleanup_that_cancels_all_tasks_breaks_nothing(loop_factory, log):
    """Ours are among them."""

    async def cancel_all():
        try:
            await forever()
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def generate():
        try:
            yield 1
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            log.append("closed")

    async def main():
        start(cancel_all())
        KEPT.append(generate())
        await anext(KEPT[-1])
        await turns()
        return 1

    assert run(main, loop_factory=loop_factory) == 1
    assert log == ["closed"]


@each_loop
def test_a_task_that_takes_long_to_stop_is_named(loop_factory, caplog, monkeypatch):
    """As in every other place that waits for cancelled tasks: long before the grace is over."""
    monkeypatch.setattr(async_plus.engine.owned.Owner.__init__, "__defaults__", (0.01,))

    async def slow():
        try:
            await forever()
        finally:
            asyncio.current_task().set_name("slow")
            while not caplog.records:
                await asyncio.sleep(0)

    async def main():
        start(slow())
        await turns()

    run(main, loop_factory=loop_factory)
    [(level, message)] = messages(caplog)
    assert level == "WARNING"
    assert re.match(r"run still waits for 1 cancelled task after \d+\.\d s: 'slow' parked at ", message)


@each_loop
def test_an_executor_that_fails_to_close_fails_the_run(loop_factory):
    """Nobody else would tell of it."""

    class Broken(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            if wait:
                raise Boom

    async def main():
        asyncio.get_running_loop().set_default_executor(Broken())

    with pytest.raises(Boom):
        run(main, loop_factory=loop_factory)
