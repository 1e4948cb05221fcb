"""The tasks that are left when main has ended."""

from __future__ import annotations

import asyncio
from asyncio import Task
from typing import Any

from async_plus import stacks
from async_plus.engine.owned import Stopping, is_reported, owners_of
from async_plus.engine.watch import Watcher
from async_plus.stacks.names import is_task

__all__ = ["culprits", "stop_leftover"]


async def stop_leftover() -> None:
    """Cancel each task that is left once, and wait until none is left.

    Not all at once: a task that holds others stops them itself, when it gets its own cancellation, and they are left
    to it. A second cancellation, from us, would break off their cleanup:

        server                          # is left, and cancelled by us
            async with task_scope()
                handler                 # is held by the scope, which cancels it
    """
    loop = asyncio.get_running_loop()
    while left := _others(loop):
        held = {future for task in left for future in stacks.waiting_for(task)}
        free = [task for task in left if task not in held and not _is_held(task)]
        # Those that wait for each other in a circle, or are held by a scope that nobody will leave any more.
        chosen = free or left
        stopping = Stopping(loop, "run")
        for task in chosen:
            stopping._adopt(task, is_reported(task))
        await stopping._drain()


def culprits(loop: asyncio.AbstractEventLoop, mine: Task[Any] | None) -> list[Task[Any]]:
    """Return the tasks other than *mine* that wait for no other task: those that hold up the rest."""
    left = [task for task in asyncio.all_tasks(loop) if task is not mine]
    waiting = {task for task in left if any(map(is_task, stacks.waiting_for(task)))}
    return [task for task in left if task not in waiting] or left


def _others(loop: asyncio.AbstractEventLoop) -> list[Task[Any]]:
    current = asyncio.current_task(loop)
    return [task for task in asyncio.all_tasks(loop) if task is not current]


def _is_held(task: Task[Any]) -> bool:
    """Tell whether *task* has an owner that will cancel it: any but the loop's own watcher, which never does."""
    return any(type(owner) is not Watcher for owner in owners_of(task)) or any(
        isinstance(getattr(callback, "__self__", None), asyncio.TaskGroup)
        for callback, _ in getattr(task, "_callbacks", None) or ()
    )
