"""What functions of anyio and aiohttp wait on, in words.

They are known by the file and the name of their code, so that neither library is imported for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeAlias

from async_plus.stacks.names import type_name
from async_plus.stacks.primitives import (
    Call,
    Children,
    Describe,
    Variables,
    peer_of,
    stream_call,
    task_group,
    task_group_tasks,
    thread,
)

__all__ = ["Owners", "children_in", "describer_in", "owners_in"]

# Called with a lock, returns those who have it: tasks, and whatever else may.
Owners: TypeAlias = Callable[[Any], tuple[object, ...]]


def _response(variables: Variables) -> str:
    return f"{type_name(variables['self'])}.start{peer_of(variables['connection'].transport)}"


def _body(variables: Variables) -> str:
    stream: Any = variables["self"]
    return f"{type_name(stream)}.{variables['func_name']}{peer_of(stream._protocol.transport)}"


def _pool(variables: Variables) -> str:
    return f"{type_name(variables['self'])}.connect, all its connections are in use"


_ANYIO = "/anyio/_backends/_asyncio.py"

_DESCRIBERS: dict[tuple[str, str], Describe] = {
    (_ANYIO, "AsyncIOBackend.run_sync_in_worker_thread"): thread,
    (_ANYIO, "CapacityLimiter.acquire_on_behalf_of"): Call("acquire"),
    (_ANYIO, "Event.wait"): Call("wait"),
    (_ANYIO, "Lock.acquire"): Call("acquire"),
    (_ANYIO, "Semaphore.acquire"): Call("acquire"),
    (_ANYIO, "SocketStream.receive"): stream_call("receive"),
    (_ANYIO, "TaskGroup.__aexit__"): task_group,
    ("/anyio/_core/_synchronization.py", "Condition.wait"): Call("wait"),
    ("/anyio/streams/memory.py", "MemoryObjectReceiveStream.receive"): Call("receive"),
    ("/anyio/streams/memory.py", "MemoryObjectSendStream.send"): Call("send"),
    ("/aiohttp/client_reqrep.py", "ClientResponse.start"): _response,
    ("/aiohttp/connector.py", "BaseConnector._wait_for_available_connection"): _pool,
    ("/aiohttp/streams.py", "DataQueue.read"): Call("read"),
    ("/aiohttp/streams.py", "StreamReader._wait"): _body,
}
_CHILDREN: dict[tuple[str, str], Children] = {(_ANYIO, "TaskGroup.__aexit__"): task_group_tasks}

# Locks that know who has them: the function that waits for one, and who that is.
_OWNERS: dict[tuple[str, str], Owners] = {
    (_ANYIO, "CapacityLimiter.acquire_on_behalf_of"): lambda limiter: tuple(limiter._borrowers),
    (_ANYIO, "Lock.acquire"): lambda lock: (lock._owner_task,),
}

_FILES = tuple({file for file, _ in _DESCRIBERS})


def describer_in(code: CodeType) -> Describe | None:
    """Return what describes the function with *code*, if it is one of those known here."""
    file = _known_file(code.co_filename)
    return None if file is None else _DESCRIBERS.get((file, code.co_qualname))


def children_in(code: CodeType) -> Children | None:
    """Return what tells for which futures the function with *code* waits, if it is one of those known here."""
    file = _known_file(code.co_filename)
    return None if file is None else _CHILDREN.get((file, code.co_qualname))


def owners_in(code: CodeType) -> Owners | None:
    """Return what tells who has the lock for which the function with *code* waits, if it is one of those known here."""
    file = _known_file(code.co_filename)
    return None if file is None else _OWNERS.get((file, code.co_qualname))


@functools.lru_cache(maxsize=4096)
def _known_file(filename: str) -> str | None:
    filename = filename.replace("\\", "/")
    return next((file for file in _FILES if filename.endswith(file)), None)
