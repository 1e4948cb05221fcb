"""What asyncio's own functions and futures wait on, in words.

It is read from asyncio's own frames and objects. What another Python does not have is simply not found there.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import selector_events, subprocess, tasks
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType
from typing import Any, TypeAlias

from async_plus.stacks.names import callable_name, is_done, is_task, name_of_type, plain, task_name, type_name, type_of

__all__ = [
    "CHILDREN",
    "DESCRIBERS",
    "WAIT_FOR",
    "Call",
    "Children",
    "Describe",
    "Variables",
    "behind",
    "describe_future",
    "listing",
    "peer_of",
    "stream_call",
    "task_group",
    "task_group_tasks",
    "thread",
    "unfinished",
]

Variables: TypeAlias = Mapping[str, Any]
Describe: TypeAlias = Callable[[Variables], str]
Children: TypeAlias = Callable[[Variables], Iterable[Any]]

# Names shown of a crowd.
MAX_NAMES = 5


def unfinished(futures: Iterable[Any]) -> list[Any]:
    """Return those of *futures* that are not done, each once."""
    # By id: the user's own kinds of futures may compare as they like.
    return list({id(future): future for future in futures if not is_done(future)}.values())


def listing(lead: str, futures: Iterable[Any], *, in_order: bool = False) -> str:
    """Name those of *futures* that are not done: ``gather of 'a', 'b'``.

    Args:
        lead: What to begin with.
        futures: Tasks and futures; a task is named by its name, another future by its type.
        in_order: Whether their order means something. Otherwise they are sorted, so that two looks at one set
            give one text.
    """
    names = [task_name(future) if is_task(future) else _kind(future) for future in unfinished(futures)]
    # Else the shorter first, so that Task-9 comes before Task-10.
    shown = names[:MAX_NAMES] if in_order else heapq.nsmallest(MAX_NAMES, names, key=lambda name: (len(name), name))
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{lead} {', '.join(shown)}{more}" if shown else lead.split()[0]


def describe_future(future: Any, function: str = "") -> str | None:
    """Say what *future* stands for, or return None if it is a plain one.

    Args:
        future: Any future.
        function: Name of the event loop's function that waits for it, if there is one.
    """
    if is_task(future):
        return f"task {task_name(future)}"
    if _is_gather(future):
        return listing("gather of", _children(future), in_order=True)
    if (shielded := _captured_by_callback(future, _SHIELD_CALLBACK, "inner")) is not None:
        return f"shield of {describe_future(shielded) or type_name(shielded)}"
    if _captured_by_callback(future, _CHAIN_CALLBACK, "source") is not None:
        return "a thread"
    if type_name(future) in _UVLOOP_SOCKET_FUTURES:
        return _socket(getattr(future, f"{type_name(future)}__sock"), function)
    return None


def behind(future: Any) -> list[Any]:
    """Return what has to be done before *future* can be, *future* itself if no more can be seen."""
    if _is_gather(future):
        return _children(future)
    if (shielded := _captured_by_callback(future, _SHIELD_CALLBACK, "inner")) is not None:
        return behind(shielded)
    return [future]


def _code(func: object) -> CodeType | None:
    return getattr(func, "__code__", None)


def _nested_code(func: object, name: str) -> CodeType | None:
    """Find the code of a function defined inside *func*."""
    constants = getattr(_code(func), "co_consts", ())
    return next((code for code in constants if type(code) is CodeType and code.co_name == name), None)


WAIT_FOR = _code(asyncio.wait_for)

_GATHERING_FUTURE: tuple[type, ...] = (getattr(tasks, "_GatheringFuture"),)  # noqa: B009
_SHIELD_CALLBACK = _nested_code(asyncio.shield, "_outer_done_callback")
_CHAIN_CALLBACK = _nested_code(getattr(asyncio.futures, "_chain_future", None), "_call_check_cancel")
_UVLOOP_SOCKET_FUTURES = frozenset({"_SyncSocketReaderFuture", "_SyncSocketWriterFuture"})


def _is_gather(future: object) -> bool:
    return issubclass(type(future), _GATHERING_FUTURE)


def _children(gathering: Any) -> list[Any]:
    children: list[Any] = gathering._children
    return children


def _kind(future: object) -> str:
    return "gather" if _is_gather(future) else type_name(future)


def _captured_by_callback(future: Any, code: CodeType | None, variable: str) -> Any:
    """Return what asyncio's callback with *code* on *future* has in its closure; None if it is not there."""
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if type(callback) is FunctionType and callback.__code__ is code:
            variables = dict(zip(callback.__code__.co_freevars, callback.__closure__ or (), strict=True))
            return variables[variable].cell_contents
    return None


def _address(address: Any) -> str:
    """Write a socket's address as people do, "" if it has none."""
    kind = type_of(address)
    if kind is tuple and len(address) >= 2 and {type(address[0]), type(address[1])} <= {str, int}:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if kind is bytes:  # in Linux's abstract namespace; such a name begins with a zero
        return str(address.replace(b"\0", b"@", 1), errors="replace")
    return plain(address) if kind is str else ""


def _peer(address: object) -> str:
    written = _address(address)
    return written and f", peer {written}"


def _socket(sock: Any, function: str, address: object = None) -> str:
    if address is None:
        try:
            address = sock.getpeername()
        except OSError:  # it listens, or is closed by now
            pass
    return f"socket fd={sock.fileno()}, {function.rpartition('.')[2]}{_peer(address)}"


class Call:
    """Describe a method by the type of its object, which may be a subclass."""

    __slots__ = ("_function",)

    def __init__(self, function: str) -> None:
        self._function = function

    def __call__(self, variables: Variables) -> str:
        return self.text(type_of(variables["self"]))

    def text(self, kind: type[object]) -> str:
        """Describe the call on any object of that type."""
        return f"{name_of_type(kind)}.{self._function}"


def _socket_call(function: str) -> Describe:
    return lambda variables: _socket(variables["sock"], function, variables.get("address"))


def stream_call(function: str) -> Describe:
    """Describe a method of something that has a ``_transport`` by that one's peer."""

    def describe(variables: Variables) -> str:
        stream = variables["self"]
        return f"{type_name(stream)}.{function}{peer_of(stream._transport)}"

    return describe


def peer_of(transport: Any) -> str:
    """Write who is at the other end of *transport*, "" if it is not known."""
    if transport is None:  # of a reader that is fed by hand
        return ""
    if peer := _peer(transport.get_extra_info("peername")):
        return peer
    # The client's end of a unix socket has no name. The server's has.
    own = _address(transport.get_extra_info("sockname"))
    return own and f", on {own}"


def _process_call(function: str) -> Describe:
    return lambda variables: f"{type_name(variables['self'])}.{function}, pid {variables['self'].pid}"


def _sleep(variables: Variables) -> str:
    left = variables["h"].when() - variables["loop"].time()
    return f"sleep, {max(left, 0):.1f} s left"


def _condition_wait(variables: Variables) -> str:
    # Notified, but a Condition.wait returns only with its lock, and that is taken.
    notified = ", notified, waiting for its lock" if is_done(variables["fut"]) else ""
    return f"{type_name(variables['self'])}.wait{notified}"


_AsCompleted: Any = getattr(tasks, "_AsCompletedIterator", None)
_Loop = selector_events.BaseSelectorEventLoop
_Queue: Any = asyncio.Queue
_SOCKET_CALLS = (
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
)
_READER_CALLS = ("read", "readexactly", "readline", "readuntil")


def task_group_tasks(variables: Variables) -> Iterable[Any]:
    """Return the tasks of a TaskGroup, be it asyncio's or anyio's."""
    tasks: Iterable[Any] = variables["self"]._tasks
    return tasks


def task_group(variables: Variables) -> str:
    """Name the tasks of a TaskGroup."""
    return listing(f"{type_name(variables['self'])} with", task_group_tasks(variables))


def _waited_set(variables: Variables) -> Iterable[Any]:
    futures: Iterable[Any] = variables["fs"]
    return futures


def _cancelled(variables: Variables) -> Iterable[Any]:
    return [variables["fut"]]


def _cancel_and_wait(variables: Variables) -> str:
    return describe_future(variables["fut"]) or type_name(variables["fut"])


def thread(variables: Variables) -> str:
    """Name the function that a thread runs."""
    return f"a thread running {callable_name(variables['func'])}"


def _constant(text: str) -> Describe:
    return lambda variables: text


# What wait_for does when its time is up.
_CANCEL_AND_WAIT = _code(getattr(tasks, "_cancel_and_wait", None))

_KNOWN: list[tuple[CodeType | None, Describe]] = [
    (_code(asyncio.sleep), _sleep),
    (_code(asyncio.wait), lambda variables: listing("wait for", _waited_set(variables))),
    (_CANCEL_AND_WAIT, _cancel_and_wait),
    (_code(asyncio.to_thread), thread),
    (_code(asyncio.TaskGroup.__aexit__), task_group),
    (_code(asyncio.Barrier.wait), Call("wait")),
    (_code(asyncio.Condition.wait), _condition_wait),
    (_code(asyncio.Event.wait), Call("wait")),
    (_code(asyncio.Lock.acquire), Call("acquire")),
    (_code(asyncio.Semaphore.acquire), Call("acquire")),
    (_code(_Queue.get), Call("get")),
    (_code(_Queue.join), Call("join")),
    (_code(_Queue.put), Call("put")),
    (_code(asyncio.StreamWriter.drain), stream_call("drain")),
    (_code(asyncio.StreamWriter.wait_closed), stream_call("wait_closed")),
    (_code(subprocess.Process.communicate), _process_call("communicate")),
    (_code(subprocess.Process.wait), _process_call("wait")),
    (_code(_Loop.getaddrinfo), _constant("a thread running getaddrinfo")),
    # A method from 3.13 on, before that a function inside of as_completed.
    (_code(getattr(_AsCompleted, "_wait_for_one", None)), _constant("as_completed")),
    (_nested_code(asyncio.as_completed, "_wait_for_one"), _constant("as_completed")),
    *((_code(getattr(_Loop, function)), _socket_call(function)) for function in _SOCKET_CALLS),
    *((_code(getattr(asyncio.StreamReader, function)), stream_call(function)) for function in _READER_CALLS),
]

# By the id of the code, as in waiters.py.
DESCRIBERS: dict[int, tuple[CodeType, Describe]] = {
    id(code): (code, describe) for code, describe in _KNOWN if code is not None
}
CHILDREN: dict[int, tuple[CodeType, Children]] = {
    id(code): (code, children)
    for code, children in (
        (_code(asyncio.wait), _waited_set),
        (_code(asyncio.TaskGroup.__aexit__), task_group_tasks),
        (_CANCEL_AND_WAIT, _cancelled),
    )
    if code is not None
}
