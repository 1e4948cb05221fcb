"""`snapshot()`: what it tells of a program, and what it never does."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import importlib
import json
import signal
import textwrap
import threading
import weakref

import pytest
from places import place
from tools import Boom, forever, refused, start, turns

from async_plus import (
    Snapshot,
    cancel_and_wait,
    impatient,
    launch_watched,
    register_waiter,
    snapshot,
    supervised,
    task_scope,
    try_gather,
)
from async_plus.diagnostics import ask, sights

virtual = pytest.mark.virtual_time


def text_of(snap):
    """The text, with file names as short as can be."""
    return str(snap).replace(__file__, "here")


def infos(snap):
    """What it tells of each task that belongs to nobody, by the first of its names."""
    return {info.names[0]: info for info in snap.tasks}


async def wait_for_reply(event):
    await event.wait()


async def handle(event):
    await wait_for_reply(event)


class TestTasks:
    async def test_each_task_is_told_with_its_stack_and_what_it_waits_on(self, tasks):
        """The lines of user code, the outermost first, and the primitive at the end."""
        tasks.append(await start(handle(asyncio.Event()), "handler"))

        found = infos(snapshot())["handler"]

        assert (found.names, found.coroutine, found.state) == (("handler",), "handle", "parked")
        assert found.stack == (place(handle, "await"), place(wait_for_reply, "await"))
        assert (found.on, found.cancelling, found.timeout_in) == ("Event.wait", 0, None)

    async def test_tasks_that_stand_at_the_same_line_are_one(self, tasks):
        """Whatever they were given; in the order of their names, in which 9 comes before 10."""
        event = asyncio.Event()
        for number in (10, 9, 1000):
            tasks.append(await start(handle(event), f"w{number}"))
        tasks.append(await start(wait_for_reply(event), "other"))

        found = infos(snapshot())

        assert found["w9"].names == ("w9", "w10", "w1000")
        assert found["other"].names == ("other",)

    @virtual
    async def test_tasks_of_one_decorator_are_told_by_what_each_runs(self, tasks):
        """Their outermost frames are the decorator's, and all at one line of it."""

        def patient(func):
            @functools.wraps(func)
            async def wrapper():
                await forever()

            return wrapper

        @patient
        async def load(): ...

        @patient
        async def save(): ...

        @supervised
        async def feed():
            await forever()

        @supervised
        async def poll():
            await forever()

        for name, func in {"load": load, "save": save, "save too": save, "feed": feed, "poll": poll}.items():
            tasks.append(await start(func(), f"the {name}"))
        await asyncio.sleep(1)

        told = {info.names: info.coroutine.rpartition(".")[2] for info in snapshot().tasks if info.state == "parked"}
        assert told == {
            ("the load",): "load",
            ("the save", "the save too"): "save",
            ("the feed",): "feed",
            ("the poll",): "poll",
        }

    @virtual
    async def test_a_group_tells_what_its_members_wait_on(self, tasks):
        """Each text once, the spread of sleeps, and no more than a few others."""
        queues = [asyncio.Queue(), asyncio.PriorityQueue(), asyncio.Queue()]
        for number, queue in enumerate(queues):
            tasks.append(await start(queue.get(), f"q{number}"))
        for number in range(3):
            tasks.append(await start(asyncio.sleep(10 + number), f"s{number}"))
        children = [await start(forever(), f"child{number}") for number in range(5)]
        tasks += children
        for number, child in enumerate(children):
            tasks.append(await start(wait_for_task(child), f"t{number}"))

        found = infos(snapshot())

        assert found["q0"].on == "Queue.get; PriorityQueue.get"
        assert found["s0"].on == "sleep, 10.0 to 12.0 s left"
        assert found["t0"].on == "task 'child0'; task 'child1'; task 'child2'; and 2 more"

    async def test_a_task_is_new_running_or_ready_too(self, tasks):
        """The one that looks is running, and one whose wait is over is ready."""
        event = asyncio.Event()
        tasks.append(await start(handle(event), "ready"))
        event.set()
        tasks.append(asyncio.get_running_loop().create_task(turns()))
        tasks[-1].set_name("next")

        snap = snapshot()
        found = infos(snap)

        me = snap.tasks[0]
        assert (me.state, me.on) == ("running", "nothing, it is running")
        assert me.stack[-1].function == "test_a_task_is_new_running_or_ready_too"
        assert (found["ready"].state, found["ready"].on) == ("ready", "nothing, it is ready to run")
        # An eager one has taken its first step already.
        assert found["next"].state in ("new", "ready")
        # Whatever the test framework runs besides.
        assert snap.count == sum(len(info.names) for info in snap.tasks)

    async def test_a_pending_cancellation_is_told(self, tasks):
        """One that was cancelled, and goes on all the same, is told apart from its like."""

        async def stubborn(released):
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    pass

        released = asyncio.Event()
        for name in ("a", "b"):
            tasks.append(await start(stubborn(released), name))
        tasks[0].cancel()
        await turns()
        tasks[0].cancel()
        await turns()

        found = infos(snapshot())
        released.set()

        assert (found["a"].names, found["a"].cancelling) == (("a",), 2)
        assert (found["b"].names, found["b"].cancelling) == (("b",), 0)
        await asyncio.wait(tasks)

    async def test_a_task_without_user_code_is_told_by_what_it_runs(self, tasks):
        """A bare primitive in a task of its own has no line of the user's."""
        tasks.append(await start(asyncio.Queue().get(), "getter"))

        found = infos(snapshot())["getter"]

        assert (found.coroutine, found.stack, found.on) == ("Queue.get", (), "Queue.get")

    async def test_a_task_without_a_name_is_named_by_what_it_runs(self, tasks):
        """Through a task factory, CPython 3.13.0 calls each of them None."""
        tasks.append(await start(handle(asyncio.Event()), "None"))

        assert "handle" in infos(snapshot())

    async def test_an_async_generator_is_gone_through(self, tasks):
        """As are all the other ways to wait: the chain is that of the reports."""

        async def items(event):
            yield await event.wait()

        async def consume(event):
            async for _ in items(event):
                pass

        tasks.append(await start(consume(asyncio.Event()), "consumer"))

        found = infos(snapshot())["consumer"]
        assert found.stack == (place(consume, "async for"), place(items, "yield"))
        assert found.on == "Event.wait"

    async def test_a_registered_function_answers(self, tasks, monkeypatch):
        """As it does in the reports; also when it is not the last frame, and when its describer fails."""
        monkeypatch.setattr("async_plus.stacks.waiters._registered", {})
        register_waiter(handle, lambda variables: f"the event {'is set' if variables['event'].is_set() else 'to come'}")
        tasks.append(await start(handle(asyncio.Event()), "a"))
        assert infos(snapshot())["a"].on == "the event to come"

        register_waiter(handle, lambda variables: 1 / 0)
        assert infos(snapshot())["a"].on == "handle (its describer raised ZeroDivisionError)"


async def wait_for_task(task):
    await task


class TestOwners:
    async def test_tasks_are_told_below_who_owns_them(self):
        """Scopes by name or line, watched tasks, gathers; each task once."""
        host = await start(try_gather(handle(asyncio.Event()), forever()), "host")
        async with task_scope(name="crawl") as named, task_scope() as scope:
            named.launch(handle(asyncio.Event()), name="a")
            named.launch(handle(asyncio.Event()), name="b")
            scope.launch(forever(), name="c")
            watched = launch_watched(forever(), name="d")
            await turns()

            snap = snapshot()
            await cancel_and_wait(watched, host)
            named.cancel()
            scope.cancel()

        line = place(TestOwners.test_tasks_are_told_below_who_owns_them, "as named" + ",")
        names = {scope.title: [info.names for info in scope.tasks] for scope in snap.scopes}
        assert len(names.pop("try_gather")) == 2
        assert names == {
            "launch_watched": [("d",)],
            "task_scope 'crawl'": [("a", "b")],
            f"task_scope at {line}": [("c",)],
        }
        assert [scope.title for scope in snap.scopes] == sorted(
            [scope.title for scope in snap.scopes], key=lambda title: (len(title), title)
        )
        assert infos(snap)["host"].on.startswith("try_gather of ")

    async def test_scopes_of_one_title_are_one(self):
        """A thousand requests that each open a scope at the same line."""

        async def request(number):
            async with task_scope() as scope:
                scope.launch(forever(), name=f"r{number}")
                await scope.wait()

        requests = [await start(request(number)) for number in range(3)]
        [scope] = snapshot().scopes
        await cancel_and_wait(*requests)

        assert scope.title.startswith("task_scope at ")
        assert [info.names for info in scope.tasks] == [("r0", "r1", "r2")]


class TestImpatientWaits:
    @virtual
    async def test_waits_in_progress_are_told_with_how_long(self, tasks):
        """Grouped by what is awaited and where, the longest first; long ones and short ones."""

        async def crawl(seconds):
            await asyncio.sleep(seconds)
            await impatient(handle(asyncio.Event()), log_after=5)

        for number in range(3):
            tasks.append(await start(crawl(number), f"c{number}"))
        await asyncio.sleep(9)

        [wait] = snapshot().waits
        assert (wait.awaited, wait.waiting_at) == ("handle", place(crawl, "impatient"))
        assert (wait.tasks, round(wait.longest, 3), round(wait.shortest, 3)) == (("c0", "c1", "c2"), 9, 7)

    @virtual
    async def test_waits_within_waits_are_told_each(self, tasks):
        """A block around an await, in one task."""

        async def crawl():
            async with impatient(log_after=5, name="warm-up"):
                await asyncio.sleep(1)
                await impatient(handle(asyncio.Event()), log_after=5)

        tasks.append(await start(crawl(), "c"))
        await asyncio.sleep(3)

        block, wait = snapshot().waits
        assert (block.awaited, block.waiting_at) == ("warm-up", place(crawl, "async with"))
        assert (wait.awaited, wait.waiting_at) == ("handle", place(crawl, "await impatient"))
        assert (round(block.longest, 3), round(wait.longest, 3)) == (3, 2)

    @virtual
    async def test_waits_of_one_task_for_the_same_are_not_taken_for_one(self, tasks):
        """A function that calls itself, say."""

        async def descend(depth):
            await asyncio.sleep(1)
            await (impatient(descend(depth - 1), log_after=5) if depth else forever())

        tasks.append(await start(descend(2), "c"))
        await asyncio.sleep(5)

        waits = snapshot().waits
        assert [wait.tasks for wait in waits] == [("c",), ("c",)]
        assert [round(wait.longest, 3) for wait in waits] == [4, 3]

    async def test_a_wait_of_a_task_that_was_not_seen_is_left_out(self, tasks, monkeypatch):
        """It ended in the meantime, in a loop that runs on in another thread."""
        tasks.append(await start(impatient(forever(), log_after=5), "c"))
        monkeypatch.setattr(asyncio, "all_tasks", lambda loop: set())

        assert snapshot().waits == ()


SECRET = "hunter2"


class Secret(Exception):  # noqa: N818
    """Shows a secret wherever it is shown."""

    def __repr__(self):
        return SECRET

    __str__ = __repr__

    def __format__(self, spec):
        return SECRET


class TestSecrets:
    @virtual
    async def test_nothing_of_what_a_program_handles_is_shown(self, tasks, caplog):
        """No argument, result, local variable or exception text, wherever they are planted."""
        secret = Secret(SECRET)

        async def client(secret, *args, password, **kwargs):
            local = [secret, SECRET]
            async with asyncio.timeout(60):
                await impatient(handle_secretly(secret, local), log_after=5)

        async def handle_secretly(*args):
            queue = asyncio.Queue(1)
            queue.put_nowait(SECRET)
            await queue.put(args)

        @supervised(delays=[60])
        async def service(secret):
            raise Secret(SECRET)

        async def await_secretly(secret):
            future = asyncio.get_running_loop().create_future()
            await asyncio.wait_for(asyncio.shield(future), 60)

        lock = asyncio.Lock()
        lock.name = SECRET

        async def enter(lock, secret):
            async with lock:
                await lock.acquire()

        tasks.append(await start(client(secret, SECRET, password=SECRET, token=SECRET), "client"))
        tasks.append(await start(service(SECRET), "service"))
        tasks.append(await start(await_secretly(SECRET), "waiter"))
        tasks.append(await start(enter(lock, SECRET), "locker"))
        async with task_scope(on_exception=lambda task, exc: None) as scope:
            scope.launch(handle_secretly(secret))
            # Whatever is logged is another matter.
            caplog.clear()
            await turns()
            snap = snapshot()
            scope.cancel()

        assert [service.last_error for service in snap.services] == ["Secret"]
        assert SECRET not in str(snap)
        assert SECRET not in repr(snap)
        assert SECRET not in json.dumps(snap.to_dict())


class TestResult:
    @virtual
    async def test_the_text_is_a_tree(self, tasks):
        """Whole, for a small program."""

        async def crawl(event):
            async with asyncio.timeout(60):
                await impatient(handle(event), log_after=5)

        me = asyncio.current_task()
        me.set_name("main")
        event = asyncio.Event()
        async with task_scope(name="crawl") as scope:
            for number in range(990):
                scope.launch(handle(event), name=f"w{number}")
            tasks.append(await start(crawl(event), "slow"))
            tasks.append(await start(asyncio.Queue().get(), "getter"))
            await asyncio.sleep(2)

            found = text_of(snapshot())
            scope.cancel()

        # The test's own task, and what runs it.
        assert [line for line in found.splitlines() if "main" not in line and "in test_" not in line] == (
            textwrap.dedent(f"""\
            993 tasks: 1 running, 992 parked

            task_scope 'crawl'
              handle x 990 ('w0', 'w1', 'w2' and 987 more) parked on Event.wait
                here:{place(handle, "await").lineno} in handle
                here:{place(wait_for_reply, "await").lineno} in wait_for_reply

            impatient waits
              handle for 2.0 s in 'slow' at here:{place(crawl, "impatient").lineno} in crawl

            other tasks
              'slow' (TestResult.test_the_text_is_a_tree.<locals>.crawl) parked on Event.wait, timeout in 58.0 s
                here:{place(crawl, "impatient").lineno} in crawl
                here:{place(handle, "await").lineno} in handle
                here:{place(wait_for_reply, "await").lineno} in wait_for_reply
              'getter' (Queue.get) parked on Queue.get""").splitlines()
        )

    async def test_it_is_frozen_and_equal_to_its_like(self):
        """Two looks at a program that stands still are the same."""
        first, second = snapshot(), snapshot()

        assert first.count == second.count
        with pytest.raises(AttributeError):
            first.count = 7
        assert not hasattr(first, "__dict__")

    @virtual
    async def test_it_can_be_written_as_json(self, tasks):
        """Nothing in it is more than a string or a finite number, even where a timeout never comes."""

        async def patient():
            async with asyncio.timeout(None), asyncio.timeout(float("inf")):
                await forever()

        tasks.append(await start(patient(), "patient"))
        snap = snapshot()

        read = json.loads(json.dumps(snap.to_dict(), allow_nan=False))
        [task] = [task for task in read["tasks"] if task["names"] == ["patient"]]
        assert task == {
            "names": ["patient"],
            "coroutine": "TestResult.test_it_can_be_written_as_json.<locals>.patient",
            "state": "parked",
            "on": "Future",
            "stack": [
                dataclasses.asdict(place(patient, "forever")),
                dataclasses.asdict(place(forever, "await")),
            ],
            "cancelling": 0,
            "timeout_in": None,
        }
        assert list(read) == ["count", "cycles", "supervisors", "services", "scopes", "waits", "tasks"]

    async def test_looking_keeps_nothing_alive(self):
        """Neither in what is returned, nor in cycles that wait for the garbage collector."""

        class Held:
            pass

        async def hold(held, lock):
            async with lock:
                await forever()

        held, lock = Held(), asyncio.Lock()
        task = await start(hold(held, lock))
        other = await start(hold(held, lock))
        gone = weakref.ref(held)
        gc.collect()
        gc.disable()
        try:
            snap = snapshot()
            await cancel_and_wait(task, other)
            del held, task, other
            await turns()
            assert gone() is None
        finally:
            gc.enable()
        assert isinstance(snap, Snapshot)


class TestAnywhere:
    async def test_it_can_be_taken_from_another_thread(self, tasks):
        """Given the loop, be it idle or not."""
        tasks.append(await start(handle(asyncio.Event()), "handler"))
        snap = await asyncio.to_thread(snapshot, asyncio.get_running_loop())

        assert infos(snap)["handler"].on == "Event.wait"

    async def test_it_can_be_taken_of_a_loop_that_is_blocked(self, tasks):
        """The line that blocks is told."""
        found, loop = [], asyncio.get_running_loop()
        in_block, looked = threading.Event(), threading.Event()

        def look():
            in_block.wait()
            found.append(snapshot(loop))
            looked.set()

        async def block():
            in_block.set()
            looked.wait()

        thread = threading.Thread(target=look)
        thread.start()
        tasks.append(await start(block(), "blocker"))
        thread.join()

        # An eager one runs in the middle of the task that started it.
        stacks = [info.stack for info in found[0].tasks if info.state == "running"]
        assert place(block, "looked.wait") in stacks[0]

    async def test_it_can_be_taken_in_a_signal_handler(self, tasks):
        """In the middle of a task, without being told the loop."""
        found = []
        tasks.append(await start(handle(asyncio.Event()), "handler"))
        previous = signal.signal(signal.SIGUSR1, lambda *_: found.append(snapshot()))
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, previous)

        assert infos(found[0])["handler"].on == "Event.wait"

    async def test_a_loop_that_runs_on_meanwhile_does_no_harm(self):
        """A thousand looks from another thread, at tasks that come and go."""
        loop, stop, looks = asyncio.get_running_loop(), threading.Event(), []

        def look():
            while len(looks) < 100:
                looks.append(str(snapshot(loop)))
            stop.set()

        @supervised(delays=[0])
        async def service():
            async with task_scope() as scope:
                for _ in range(10):
                    scope.launch(impatient(turns(2), log_after=60))
                await scope.wait()

        thread = threading.Thread(target=look)
        thread.start()
        lock = asyncio.Lock()

        async def enter():
            async with lock, asyncio.timeout(60):
                await asyncio.sleep(0)

        while not stop.is_set():
            await try_gather(service(), *[enter() for _ in range(10)])
        thread.join()

        assert len(looks) == 100

    async def test_what_ends_between_look_and_question_is_told_as_it_was_seen(self, tasks, monkeypatch):
        """Of a lock's holder, of who waits for it, and of who waits for tasks nothing more can be found out then."""
        loop, lock, over = asyncio.get_running_loop(), asyncio.Lock(), asyncio.Event()

        async def take():
            await lock.acquire()
            await over.wait()

        async def stay():
            nothing = None
            await asyncio.Lock().acquire()
            await lock.acquire()
            return nothing

        async def gather():
            await try_gather(over.wait(), over.wait())

        tasks += [
            await start(take(), "holder"),
            await start(lock.acquire(), "contender"),
            await start(gather(), "gatherer"),
            await start(stay(), "patient"),
        ]

        async def end():
            over.set()
            tasks[1].cancel()
            await asyncio.wait(tasks[:3])

        def look_and_let_end(seen):
            found = sights.look(seen)
            asyncio.run_coroutine_threadsafe(end(), loop).result()
            return found

        # By its module, whose name in the package is the function's.
        monkeypatch.setattr(importlib.import_module("async_plus.diagnostics.snapshot"), "look", look_and_let_end)
        found = infos(await asyncio.to_thread(snapshot, loop))

        assert {found[name].state for name in ("holder", "contender", "gatherer", "patient")} == {"parked"}
        assert [place(take, "over.wait")] == list(found["holder"].stack)
        assert [found[name].on for name in ("holder", "contender", "patient")] == ["Future", "Future", "Lock.acquire"]

    async def test_who_was_just_given_a_lock_is_not_said_to_wait_for_it(self, tasks):
        """It has not run since, so that it still stands where it waited."""
        lock = asyncio.Lock()

        async def contend():
            async with lock:
                pass

        await lock.acquire()
        tasks.append(await start(contend(), "contender"))
        lock.release()
        found = snapshot()

        assert infos(found)["contender"].on == "nothing, it is ready to run"
        assert found.cycles == ()

    def test_without_a_loop_it_says_what_is_needed(self):
        """Outside of a loop there is no telling which is meant."""
        with refused(
            RuntimeError, "snapshot() needs a loop, as none is running in this thread: pass the one to look at"
        ):
            snapshot()

    def test_what_is_no_loop_is_refused(self):
        """Rather than shown as empty."""
        with refused(TypeError, "loop must be an event loop, got int 7"):
            snapshot(7)

    def test_a_closed_loop_has_no_tasks(self):
        """And is no error."""
        loop = asyncio.new_event_loop()
        loop.close()

        assert str(snapshot(loop)) == "0 tasks"


class TestHostility:
    async def test_tasks_of_a_class_of_the_users_may_do_anything(self, tasks):
        """None of their failures gets out."""

        class Hostile(asyncio.Task):
            asked = False

            def get_name(self):
                if Hostile.asked:
                    raise Boom
                return super().get_name()

            def cancelling(self):
                if Hostile.asked:
                    raise Boom
                return super().cancelling()

        tasks.append(Hostile(handle(asyncio.Event()), loop=asyncio.get_running_loop()))
        await turns()
        Hostile.asked = True
        try:
            found = infos(snapshot())
        finally:
            Hostile.asked = False

        assert (found["Hostile"].on, found["Hostile"].cancelling) == ("Event.wait", 0)

    async def test_futures_of_a_class_of_the_users_may_do_anything(self, tasks):
        """None of their failures gets out, either."""

        class Hostile(asyncio.Future):
            def done(self):
                if asked:
                    raise Boom
                return super().done()

            def __bool__(self):
                raise Boom

            def __eq__(self, other):
                raise Boom

            __hash__ = None

        asked = False
        future = Hostile()

        async def waiter():
            await future

        tasks.append(await start(waiter(), "waiter"))
        asked = True
        found = infos(snapshot())
        asked = False

        assert found["waiter"].on == "Hostile"

    async def test_callbacks_may_be_anything(self, tasks):
        """Who owns a task is told by its callbacks, which are the user's as well."""

        class Liar:
            @property
            def __class__(self):
                raise Boom

            def method(self, task):
                pass

        tasks.append(await start(forever(), "a"))
        tasks[0].add_done_callback(Liar().method)
        tasks[0].add_done_callback(print)

        assert infos(snapshot())["a"].names == ("a",)
        tasks[0].remove_done_callback(print)

    async def test_a_lock_that_is_none_is_no_harm(self, tasks):
        """A class of the user's may have left everything out."""

        class Bare(asyncio.Condition):
            def __init__(self):
                pass

            async def __aenter__(self):
                pass

            async def __aexit__(self, *_):
                pass

        async def enter():
            async with Bare():
                await forever()

        tasks.append(await start(enter(), "a"))

        assert infos(snapshot())["a"].names == ("a",)

    async def test_what_cannot_be_described_is_named_by_its_type(self, tasks, monkeypatch):
        """It went on in another thread in the meantime, say."""
        tasks.append(await start(forever(), "a"))
        monkeypatch.setattr(sights, "describe_terminal", lambda *args: 1 / 0)

        assert infos(snapshot())["a"].on == "Future"

    def test_what_changes_all_the_time_is_tried_again(self):
        """As asyncio.all_tasks does it, and no longer than that."""
        failures = [RuntimeError("changed size"), RuntimeError("changed size")]

        def copy():
            if failures:
                raise failures.pop()
            return [1]

        assert ask.read_while_changing(copy) == [1]

        def never():
            failures.append(RuntimeError("changed size"))
            raise failures[-1]

        with pytest.raises(RuntimeError) as caught:
            ask.read_while_changing(never)
        assert len(failures) == 1000
        assert caught.value is failures[-1]
