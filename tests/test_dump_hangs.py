"""Programs that hang for real, and what one ``kill -USR1`` tells of them."""

from __future__ import annotations

import re
import signal
import textwrap

from runs import PRELUDE, dump_of, each_loop_of_programs

DEADLOCK = """
    async def transfer(source, target, met):
        async with source:
            await met.wait()
            async with target:                  # parked
                raise AssertionError

    async def main():
        dump_on_signal()
        alice, bob, met = asyncio.Lock(), asyncio.Lock(), asyncio.Barrier(2)
        async with task_scope(name="transfers") as scope:
            scope.launch(transfer(alice, bob, met), name="alice to bob")
            scope.launch(transfer(bob, alice, met), name="bob to alice")
            while met.n_waiting or not alice.locked() or not bob.locked() or not alice._waiters or not bob._waiters:
                await asyncio.sleep(0)
            report()
            await scope.wait()                  # waiting

    with asyncio.Runner({factory}) as runner:
        runner.run(main())                      # running
"""

DEAD_PRODUCER = """
    async def produce(queue):
        await queue.put("swordfish")
        raise ConnectionError("swordfish")      # raised

    async def consume(queue):
        while True:
            await queue.get()                   # parked

    async def main():
        dump_on_signal()
        queue = asyncio.Queue()
        launch_watched(produce(queue), name="producer")    # launched
        consumer = asyncio.create_task(consume(queue), name="consumer")
        while not queue._getters:
            await asyncio.sleep(0)
        report()
        await consumer                          # waiting

    with asyncio.Runner({factory}) as runner:
        runner.run(main())                      # running
"""


def program(source, factory):
    """Return the source for a process, and the line of each marker in it."""
    source = textwrap.dedent(source).format(factory=factory)
    lines = (PRELUDE + source).splitlines()
    return source, {line.rpartition("# ")[2]: number for number, line in enumerate(lines, 1) if "# " in line}


def body(lines):
    """Return what a dump says of the tasks."""
    assert re.fullmatch(r"===== process \d+ at .*, on SIGUSR1 =====", lines[0])
    return lines[1 : lines.index("main thread") - 1]


@each_loop_of_programs
def test_two_tasks_that_lock_in_opposite_order_are_found(start_program, factory):
    """The circle, both tasks, the line at which each waits, and who holds what it waits for."""
    source, line = program(DEADLOCK, factory)
    hanging = start_program(source)
    hanging.wait_until_here()

    hanging.process.send_signal(signal.SIGUSR1)

    assert body(until_parked(hanging)) == [
        "3 tasks: 3 parked",
        "",
        "deadlock: 'alice to bob' -> 'bob to alice' -> 'alice to bob'",
        "",
        "task_scope 'transfers'",
        "  'alice to bob' (transfer) parked on Lock.acquire, held by 'bob to alice'",
        f"    <string>:{line['parked']} in transfer",
        "  'bob to alice' (transfer) parked on Lock.acquire, held by 'alice to bob'",
        f"    <string>:{line['parked']} in transfer",
        "",
        "other tasks",
        "  'Task-1' (main) parked on task_scope 'transfers' of 'alice to bob', 'bob to alice'",
        f"    <string>:{line['waiting']} in main",
    ]


@each_loop_of_programs
def test_a_consumer_whose_producer_has_died_is_found(start_program, factory):
    """The failure was logged when it happened, with its line; the dump names who still waits, and for the queue."""
    source, line = program(DEAD_PRODUCER, factory)
    hanging = start_program(source)
    hanging.wait_until_here()
    logged = [*iter(hanging.process.stderr.readline, "ConnectionError: swordfish\n")]

    hanging.process.send_signal(signal.SIGUSR1)

    assert logged[0] == (
        f"ERROR task 'producer' failed with ConnectionError, launched at <string>:{line['launched']} in main\n"
    )
    assert f'  File "<string>", line {line["raised"]}, in produce\n' in logged
    found = until_parked(hanging)
    assert body(found) == [
        "2 tasks: 2 parked",
        "",
        "tasks",
        "  'Task-1' (main) parked on task 'consumer'",
        f"    <string>:{line['waiting']} in main",
        "  'consumer' (consume) parked on Queue.get",
        f"    <string>:{line['parked']} in consume",
    ]
    assert not any("swordfish" in text for text in found)


def until_parked(hanging):
    """Return the first dump in which main waits as well, after it has reported that it is about to."""
    while "running" in (lines := dump_of(hanging))[1]:
        hanging.process.send_signal(signal.SIGUSR1)
    return lines
