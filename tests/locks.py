"""Tasks that take locks and wait for them, and what a snapshot tells of that."""

from __future__ import annotations

from tools import forever, turns

from async_plus import snapshot


def on(name):
    """What the task of that name waits on."""
    [found] = [info.on for info in snapshot().tasks if name in info.names]
    return found


def told(snap):
    """The lines on circles."""
    return [line for line in str(snap).splitlines() if line.startswith(("deadlock: ", "possible "))]


async def enter(lock, *inside):
    """Enter the block of *lock*, in it those of *inside*, and stay."""
    async with lock:
        await turns(2)
        if inside:
            await enter(*inside)
        else:
            await forever()


async def cross(gate, outer, inner):
    """Enter the block of *outer* and, when the gate is open, that of *inner*."""
    async with outer:
        await gate.wait()
        await enter(inner)
