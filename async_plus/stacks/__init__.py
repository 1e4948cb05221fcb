"""Where is this task parked, and on what.

The modules, each built on those before it:

    places.py       lines of code, and whose code it is
    names.py        names of objects, found without running their code
    walk.py         from an awaitable to its innermost frame
    primitives.py   what asyncio's own functions and futures wait on, in words
    libraries.py    the same of anyio and aiohttp
    waiters.py      the registered functions, and which one answers for a chain
    chain.py        all of it together, for a task
"""

from __future__ import annotations

from async_plus.stacks.chain import Chain, Parked, chain, parked, waiting_for
from async_plus.stacks.names import name_of
from async_plus.stacks.places import Place, is_internal, is_user_code
from async_plus.stacks.primitives import listing
from async_plus.stacks.waiters import register_children, register_waiter
from async_plus.stacks.walk import Link

__all__ = [
    "Chain",
    "Link",
    "Parked",
    "Place",
    "chain",
    "is_internal",
    "is_user_code",
    "listing",
    "name_of",
    "parked",
    "register_children",
    "register_waiter",
    "waiting_for",
]
