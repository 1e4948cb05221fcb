"""Tasks that take their time to stop, and what is said of them."""

from __future__ import annotations

import asyncio

from places import at
from tools import forever

from async_plus.events.event import count_of


async def stuck(seconds, name):
    """Be cancelled, and then take *seconds* to stop."""
    try:
        await forever()
    finally:
        asyncio.current_task().set_name(name)
        await asyncio.sleep(seconds)


STUCK_AT = at(stuck, "asyncio.sleep")


def parked(name, left):
    """What a warning says of a task that is stuck."""
    return f"'{name}' parked at {STUCK_AT} on sleep, {left:.1f} s left"


def warning(owner, after, *tasks):
    """The record of a warning."""
    stuck, count = "; ".join(tasks), count_of(len(tasks), "cancelled task")
    return ("WARNING", f"{owner} still waits for {count} after {after:.1f} s: {stuck}")
