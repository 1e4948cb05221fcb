"""Runs a program on a loop of its own, and looks at what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import types
import warnings
from collections.abc import Callable, Generator
from typing import Any

from loops import factories

from .grammar import from_seed
from .programs import Group, Program, kinds
from .world import Broken, CountedTask, GatherFunction, World

LOOPS = factories(virtual=True)

_CYCLES = (asyncio.Future, BaseException, types.FrameType, types.CoroutineType, types.TracebackType)

# A TaskGroup that fails leaves cycles itself (gh-124958, gh-128552).
_TASK_GROUP_LEAVES_CYCLES = sys.version_info < (3, 13, 1)


@contextlib.contextmanager
def court() -> Generator[None]:
    """What the runs of any number of programs share: nothing is logged, no garbage collected but by us.

    In debug mode, what is kept with each handle, future and task is the line that made it, and not its whole stack, for
    which most of the time would go.
    """
    depth, asyncio.constants.DEBUG_STACK_DEPTH = asyncio.constants.DEBUG_STACK_DEPTH, 1
    limits = {"tracebacklimit": sys.tracebacklimit} if hasattr(sys, "tracebacklimit") else {}
    sys.tracebacklimit = 1
    logger = logging.getLogger("async_plus")
    before, propagates = logger.handlers[:], logger.propagate
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    gc.freeze()
    logger.handlers[:], logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        asyncio.constants.DEBUG_STACK_DEPTH = depth
        del sys.tracebacklimit
        vars(sys).update(limits)
        logger.handlers[:], logger.propagate = before, propagates
        if was_enabled:
            gc.enable()


def judge(
    program: Program,
    loop_name: str = "default",
    *,
    gather: GatherFunction | None = None,
    trace: list[str] | None = None,
) -> list[Broken]:
    """Run *program* in the `court`, and return which promises were not kept."""
    try:
        return _judge(program, loop_name, gather, trace)
    finally:
        # The loop and the world, which the next one shall not find.
        CountedTask.world = None
        gc.collect()


def judge_seeds(seeds: range, loops: list[str], most: int) -> list[str]:
    """Run the programs of *seeds* on each of the *loops*, and return a paragraph for each that fails, up to so many."""
    failures: list[str] = []
    with court():
        for seed in seeds:
            program = from_seed(seed)
            for loop in loops:
                broken = judge(program, loop)
                if broken:
                    command = f"python -m tests.chaos --seed {seed} --loop {loop}"
                    failures.append("\n    ".join([command, *map(str, broken)]))
                if len(failures) >= most:
                    return failures
    return failures


def _judge(program: Program, loop_name: str, gather: GatherFunction | None, trace: list[str] | None) -> list[Broken]:
    loop = LOOPS[loop_name]()
    world = World(loop, gather, trace=trace is not None)
    if program.counted:
        CountedTask.world = world
        loop.set_task_factory(_counted_factory(loop_name))
    errors: list[str] = []

    def note_error(_: object, context: dict[str, Any]) -> None:
        errors.append(f"{context['message']}: {context.get('exception')!r}")
        # Not lost then, if late and by asyncio.
        world.ledger.surfaced(context.get("exception"))

    loop.set_exception_handler(note_error)
    never_awaited: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: never_awaited.append(str(message).partition("\n")[0])
        try:
            loop.run_until_complete(world.run(program))
        except RuntimeError as exc:
            world.is_stuck = True
            world.check(False, "ends in time", str(exc))
        finally:
            loop.close()
        found = _garbage()
    if not world.is_stuck:
        world.settle()
    if trace is not None:
        trace += world.trace or ()
    if world.is_stuck:
        return world.broken
    broken = world.broken
    broken += [Broken("no coroutine never awaited", text) for text in never_awaited if "never awaited" in text]
    broken += [Broken("the suite works", text) for text in never_awaited if "never awaited" not in text]
    broken += [Broken("no error never retrieved", text) for text in errors]
    if found and not _is_made_by_asyncio(found, program):
        broken.append(Broken("no cycles", ", ".join(found)))
    return broken


def _is_made_by_asyncio(found: list[str], program: Program) -> bool:
    if _TASK_GROUP_LEAVES_CYCLES and Group in kinds(program):
        return True
    # On Pythons older than 3.12.9 and 3.13.2, an eager task that fails in its first step is held by the frame it was
    # made in, to which its traceback leads (gh-128552).
    return any(thing.startswith("frame of BaseEventLoop.create_task:") for thing in found)


def _counted_factory(loop_name: str) -> Callable[..., asyncio.Task[Any]]:
    if loop_name == "eager":
        return asyncio.create_eager_task_factory(CountedTask)
    return lambda loop, coro, **options: CountedTask(coro, loop=loop, **options)


def _garbage() -> list[str]:
    """Collect what is held by nothing but itself, and name what of it is asynchronous or leads to frames."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = [_title(thing) for thing in gc.garbage if isinstance(thing, _CYCLES)]
        gc.garbage.clear()
    finally:
        gc.set_debug(0)
    # Now for real, so that finalizers run: those that tell of what was never retrieved.
    gc.collect()
    return found


def _title(thing: object) -> str:
    if isinstance(thing, types.FrameType):
        return f"frame of {thing.f_code.co_qualname}:{thing.f_lineno}"
    if isinstance(thing, types.CoroutineType):
        return f"coroutine {thing.__qualname__}"
    return type(thing).__name__
