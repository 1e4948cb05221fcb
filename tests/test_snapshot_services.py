"""`snapshot()`: supervisors and supervised services."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import pickle

import pytest
from tools import Boom, forever, start, turns

from async_plus import Supervisor, cancel_and_wait, heartbeat, ready, snapshot, supervised, task_scope
from async_plus.stacks import Link

pytestmark = pytest.mark.virtual_time


def facts(service):
    """What is told of a service, without its tasks."""
    return {
        "name": service.name,
        "state": service.state,
        "since": round(service.since, 3),
        "restarts": service.restarts,
        "last_error": service.last_error,
        "restart_in": service.restart_in and round(service.restart_in, 3),
        "ready": service.ready,
        "overdue": service.overdue,
    }


USUAL = {
    "name": "feed",
    "state": "running",
    "since": 0,
    "restarts": 0,
    "last_error": None,
    "restart_in": None,
    "ready": None,
    "overdue": False,
}


@supervised(name="feed", delays=[60])
async def fail_or_wait(number):
    if number == 0:
        raise Boom
    await forever()


async def nested():
    async with Supervisor("inner") as sup:
        await sup.start(forever, name="poll")
        await sup.wait()


def told(supervisors, depth=1):
    """Yield the names of supervisors and of those within them, with how deep they are."""
    for supervisor in supervisors:
        yield supervisor.name, depth
        for child in supervisor.children:
            yield from told(child.supervisors, depth + 1)


class TestServices:
    async def test_a_service_is_told_with_the_task_of_its_attempt(self, tasks):
        """Whoever awaits it is a task like any other."""

        @supervised(name="feed")
        async def feed():
            await forever()

        tasks.append(await start(feed(), "host"))
        await asyncio.sleep(3)

        snap = snapshot()
        [service] = snap.services
        assert facts(service) == USUAL | {"since": 3}
        [task] = service.tasks
        assert (task.names, task.state, task.on) == (("feed#1",), "parked", "Future")
        [host] = [info for info in snap.tasks if info.names == ("host",)]
        assert host.on == "task 'feed#1'"

    async def test_one_that_failed_waits_for_its_restart(self, tasks):
        """Told with the type of the error, and not its text."""

        @supervised(name="feed", delays=[2, 60])
        async def feed():
            await asyncio.sleep(1)
            raise Boom("a secret")

        tasks.append(await start(feed(), "host"))
        await asyncio.sleep(1.5)
        [service] = snapshot().services
        assert facts(service) == USUAL | {"state": "backoff", "since": 0.5, "restart_in": 1.5, "last_error": "Boom"}
        assert service.tasks == ()

        await asyncio.sleep(2)
        [service] = snapshot().services
        assert facts(service) == USUAL | {"since": 0.5, "restarts": 1, "last_error": "Boom"}

    async def test_one_that_returned_waits_for_its_restart_too(self, tasks):
        """Without an error."""

        @supervised(name="feed", delays=[60], restart="always")
        async def feed():
            await asyncio.sleep(1)

        tasks.append(await start(feed(), "host"))
        await asyncio.sleep(11)

        [service] = snapshot().services
        assert facts(service) == USUAL | {"state": "backoff", "since": 10, "restart_in": 50}

    async def test_one_that_declares_to_be_ready_is_starting_until_then(self, tasks):
        """And running from then on."""

        @supervised(name="feed", ready=True)
        async def feed():
            await asyncio.sleep(5)
            ready()
            await forever()

        tasks.append(await start(feed(), "host"))
        [service] = snapshot().services
        assert facts(service) == USUAL | {"state": "starting", "ready": False}

        await asyncio.sleep(6)
        [service] = snapshot().services
        assert facts(service) == USUAL | {"since": 6, "ready": True}

    async def test_one_that_gives_no_heartbeat_is_overdue(self, tasks):
        """For as long as nobody has done anything about it: the loop may be blocked."""
        seen = []

        @supervised(name="feed", heartbeat=5)
        async def feed():
            heartbeat()
            try:
                await forever()
            finally:
                seen.extend(snapshot().services)

        tasks.append(await start(feed(), "host"))
        await asyncio.sleep(6)

        [service] = seen
        assert facts(service) == USUAL | {"state": "stopping", "since": 5}
        [service] = snapshot().services
        assert service.last_error == "Hung"

    async def test_a_blocked_loop_leaves_heartbeats_overdue(self, tasks, virtual_clock):
        """They are told as such, from outside."""

        @supervised(name="feed", heartbeat=5)
        async def feed():
            await forever()

        tasks.append(await start(feed(), "host"))
        virtual_clock.jump(asyncio.get_running_loop().time() + 7)

        [service] = snapshot().services
        assert facts(service) == USUAL | {"since": 7, "overdue": True}

    async def test_one_that_is_stopped_is_stopping(self, tasks):
        """Until its attempt has ended."""
        released = asyncio.Event()

        @supervised(name="feed")
        async def feed():
            try:
                await forever()
            finally:
                await released.wait()

        tasks.append(await start(feed(), "host"))
        tasks[0].cancel()
        await turns()

        [service] = snapshot().services
        assert facts(service) == USUAL | {"state": "stopping"}
        released.set()
        await asyncio.wait(tasks)

    async def test_one_whose_host_runs_at_this_very_moment_may_not_be_seen(self, tasks, monkeypatch):
        """A running coroutine shows little of what it runs in turn. It does so for a moment only, after a failure."""
        seen = []

        @supervised(name="feed", delays=[60], on=lambda exc: seen.append(snapshot()) or True)
        async def feed():
            raise Boom

        tasks.append(await start(feed(), "host"))

        assert len(seen) == 1
        assert {service.state for service in seen[0].services} <= {"running"}
        assert [service.state for service in snapshot().services] == ["backoff"]

        monkeypatch.setattr(Link, "variables", lambda self: {})
        assert snapshot().services == ()

    async def test_a_thousand_alike_make_one_line(self, tasks):
        """Those that fare otherwise have their own."""

        for number in range(4):
            tasks.append(await start(fail_or_wait(number)))
        await asyncio.sleep(10)

        lines = str(snapshot()).splitlines()
        title = lines.index("supervised services")
        assert [line for line in lines[title + 1 : lines.index("", title)] if ".py:" not in line] == [
            "  'feed' backoff for 10.0 s, restart in 50.0 s, last error Boom",
            "  'feed' x 3 running for 10.0 s",
            "    fail_or_wait x 3 ('feed#1', 'feed#1', 'feed#1') parked on Future",
        ]

    async def test_in_a_scope_it_is_told_apart_from_its_host(self):
        """The host is the scope's, the attempt the service's."""

        @supervised(name="feed")
        async def feed():
            await forever()

        async with task_scope(name="feeds") as scope:
            scope.launch(feed(), name="host")
            await turns()
            snap = snapshot()
            scope.cancel()

        [service] = snap.services
        assert [task.names for task in service.tasks] == [("feed#1",)]
        assert [(owner.title, [task.names for task in owner.tasks]) for owner in snap.scopes] == [
            ("task_scope 'feeds'", [("host",)])
        ]


class TestSupervisors:
    async def test_supervisors_are_a_tree(self):
        """Children in order, and below them the supervisors that were opened within."""

        async def poll():
            await forever()

        async def nested():
            async with Supervisor("inner", strategy="one_for_all") as sup:
                await sup.start(poll, name="poll")
                await sup.wait()

        async with Supervisor("shop") as sup, Supervisor("other"):
            await sup.start(nested, name="nested")
            await sup.start(poll, name="poll")
            await asyncio.sleep(3)
            snap = snapshot()

        assert snap.services == ()
        shop, other = snap.supervisors
        assert (shop.name, shop.strategy, other.name, other.children) == ("shop", "one_for_one", "other", ())
        first, second = shop.children
        assert facts(first) == USUAL | {"name": "nested", "since": 3}
        assert facts(second) == USUAL | {"name": "poll", "since": 3}
        assert [task.names for task in first.tasks] == [("nested#1",)]
        [inner] = first.supervisors
        assert (inner.name, inner.strategy) == ("inner", "one_for_all")
        assert [child.name for child in inner.children] == ["poll"]
        assert snap.scopes == ()

        # All are closed by now.
        assert snapshot().supervisors == ()

    async def test_the_text_shows_the_tree(self):
        """Indented, with the tasks."""

        async with Supervisor("shop") as sup:
            await sup.start(nested, name="nested")
            await asyncio.sleep(3)
            lines = str(snapshot()).splitlines()

        section = lines[lines.index("supervisor 'shop' (one_for_one)") :]
        assert [line for line in section[: section.index("")] if ".py:" not in line] == [
            "supervisor 'shop' (one_for_one)",
            "  'nested' running for 3.0 s",
            "    'nested#1' (nested) parked on supervisor 'inner' of 'poll#1'",
            "    supervisor 'inner' (one_for_one)",
            "      'poll' running for 3.0 s",
            "        'poll#1' (forever) parked on Future",
        ]

    async def test_supervisors_may_nest_as_deep_as_they_like(self):
        """Far inside, they are told of side by side, so that copying a snapshot is no deep recursion."""

        async def level(number):
            # Otherwise eager tasks are a deep recursion.
            await asyncio.sleep(0)
            if number == 0:
                await forever()
            async with Supervisor(f"level {number}") as sup:
                await sup.start(level, number - 1, name=f"child {number}")
                await sup.wait()

        async with Supervisor("top") as sup:
            await sup.start(level, 100, name="child")
            await asyncio.sleep(3)
            snap = snapshot()

        json.dumps(snap.to_dict())
        assert pickle.loads(pickle.dumps(snap)) == copy.deepcopy(snap) == snap
        assert all(f"supervisor 'level {number}' " in str(snap) for number in range(1, 101))
        depths = [*told(snap.supervisors)]
        assert [depth for _, depth in depths] == [min(number, 20) for number in range(1, 102)]
        assert [name for name, _ in depths] == ["top", *(f"level {number}" for number in range(100, 0, -1))]

    async def test_a_child_is_told_as_a_service_is(self):
        """With what it declares, its failures and when it comes back."""

        @supervised(delays=[0, 60], ready=True, heartbeat=9, name="feed")
        async def feed():
            await asyncio.sleep(1)
            ready()
            await asyncio.sleep(1)
            raise Boom("a secret")

        async with Supervisor("shop") as sup:
            await sup.start(feed)
            [child] = snapshot().supervisors[0].children
            assert facts(child) == USUAL | {"since": 1, "ready": True}
            await asyncio.sleep(1.5)
            [child] = snapshot().supervisors[0].children
            assert facts(child) == USUAL | {
                "state": "starting",
                "since": 0.5,
                "restarts": 1,
                "last_error": "Boom",
                "ready": False,
            }
            await asyncio.sleep(10)
            [child] = snapshot().supervisors[0].children

        assert facts(child) == USUAL | {
            "state": "backoff",
            "since": 8.5,
            "restarts": 2,
            "last_error": "Boom",
            "restart_in": 51.5,
        }
        assert child.tasks == ()

    async def test_siblings_that_are_restarted_tell_when_too(self):
        """They did not fail, and wait for the one that did."""

        @supervised(delays=[60], name="bad")
        async def bad():
            await asyncio.sleep(1)
            raise Boom

        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(supervised(forever), name="good")
            await sup.start(bad)
            await asyncio.sleep(3)
            good, failed = snapshot().supervisors[0].children

        assert facts(good) == USUAL | {"name": "good", "state": "backoff", "since": 2, "restart_in": 58}
        assert facts(failed) == USUAL | {
            "name": "bad",
            "state": "backoff",
            "since": 2,
            "restart_in": 58,
            "restarts": 1,
            "last_error": "Boom",
        }

    async def test_a_child_that_waits_for_its_first_start_is_starting(self):
        """Its elder sister is not up yet."""

        async def child(sup, starts):
            starts.append(await start(sup.start(forever, name="second")))
            await forever()

        @supervised(delays=[60], name="first")
        async def first():
            raise Boom

        async with Supervisor("shop", strategy="one_for_all") as sup:
            starting = await start(sup.start(first))
            second = await start(sup.start(forever, name="second"))
            found = {info.name: info.state for info in snapshot().supervisors[0].children}
            await cancel_and_wait(starting, second)

        assert found["second"] in ("running", "starting", "backoff")

    async def test_what_a_supervisor_leaves_behind_is_told_apart(self, monkeypatch):
        """A child whose supervisor ended a moment ago is nobody's any more."""
        released = asyncio.Event()

        async def stubborn():
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

        async with Supervisor("shop") as sup:
            await sup.start(stubborn, name="stubborn")
            monkeypatch.setattr("async_plus.diagnostics.snapshot.supervisors_of", lambda *args: ())
            [scope] = snapshot().scopes
            released.set()
            await sup.wait()

        assert scope.title == "supervised, ended meanwhile"
        assert [task.names for task in scope.tasks] == [("stubborn#1",)]
