"""Who may hold a lock of which nobody is in the block.

    await lock.acquire()                # all that is left of it in the frame is that it knows the lock
    await reply

And while a frame runs, nobody can see in which blocks it is:

    async with lock:
        parse(reply)                    # running
"""

from __future__ import annotations

import dis
import gc
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from types import CellType, CodeType, FrameType
from typing import Any

from async_plus.stacks.names import type_of
from async_plus.stacks.places import is_internal
from async_plus.stacks.walk import frame_of

__all__ = ["has_taken", "held_while_running", "within_reach"]

_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})

_CALLS = ("acquire", "release")

# Of a variable, be it local, global or a closure's.
_LOADS = re.compile("LOAD_(FAST|DEREF|GLOBAL|NAME)")

# Of types that are no built-in ones.
_HEAP_TYPE = 1 << 9

# What is made of them may be huge, and is no object that has a lock for an attribute.
_CONTAINERS = (dict, list, set, frozenset, tuple, str, bytes, type)


def has_taken(code: CodeType, lasti: int) -> bool:
    """Tell whether, line by line, *code* has come past an ``acquire()`` by *lasti*, and past no ``release()`` since."""
    if "acquire" not in code.co_names:
        return False
    calls = [
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in _ATTRIBUTES and instruction.argval in _CALLS and instruction.offset <= lasti
    ]
    return calls[-1:] == ["acquire"]


def within_reach(owner: object) -> set[int]:
    """Return the ids of what the parked frame of *owner* knows by its variables, their attributes, and its globals."""
    frame = frame_of(owner)
    if frame is None:
        return set()
    # Only the garbage collector is asked, as in blocks.py.
    return set(_known((*gc.get_referents(owner), *(_global(frame, name) for name in frame.f_code.co_names))))


def _global(frame: FrameType, name: str) -> object:
    # By the dict's own method, since what exec() was given for globals may be of the user's own kind.
    return dict[str, object].get(frame.f_globals, name)


def _known(variables: Iterable[object]) -> Iterator[int]:
    for thing in variables:
        yield id(thing)
        inner: list[Any] = gc.get_referents(thing) if type_of(thing) is CellType else [thing]
        for known in inner:
            yield id(known)
            kind = type_of(known)
            if kind.__flags__ & _HEAP_TYPE and not issubclass(kind, _CONTAINERS):
                yield from _attributes(known)


def _attributes(thing: object) -> Iterator[int]:
    for attribute in gc.get_referents(thing):
        yield id(attribute)
        # The attributes of an object are either among what it refers to, or in a dict that is.
        if type_of(attribute) is dict:
            values: Any = attribute
            yield from map(id, values.values())


if sys.version_info >= (3, 13):  # pragma: >=3.13 cover

    def held_while_running(frame: FrameType) -> set[int]:
        """Return the ids of what may be a lock that the running *frame* holds, or one that it has called."""
        found: set[int] = set()
        call: FrameType | None
        # No variable may be left with our own frame in it, which would be a reference cycle.
        for call in (sys._getframe(), *sys._current_frames().values()):
            found.clear()
            while call is not None and call is not frame:
                _note(call, found)
                call = call.f_back
            if call is not None:
                _note(call, found)
                return found
        return set()

    def _note(frame: FrameType, found: set[int]) -> None:
        code = frame.f_code
        # The variables of a module or a class are a namespace of the user's. We ourselves know every lock by now.
        if not code.co_flags & inspect.CO_OPTIMIZED or is_internal(code.co_filename):
            return
        variables = frame.f_locals
        taken = has_taken(code, frame.f_lasti)
        names = (*variables, *code.co_names) if taken else _names_in_heads(code, frame.f_lasti)
        found.update(_known(variables[name] if name in variables else _global(frame, name) for name in names))

    def _names_in_heads(code: CodeType, lasti: int) -> set[str]:
        """Return the variables in the lines that open the blocks which the instruction at *lasti* is in.

            async with self.pool.lock, timeout(5):      # self and timeout

        What else the function knows is no lock that it holds by these blocks.
        """
        bytecode = dis.Bytecode(code)
        handlers: Any = getattr(bytecode, "exception_entries", ())
        # What is raised in a block goes to the block's exit, perhaps by way of other handlers in it. The exit has the
        # lines of the head.
        exits: dict[int, Any] = {
            first.offset: second.positions
            for first, second in pairwise(bytecode)
            if second.opname == "WITH_EXCEPT_START"
        }
        lines: set[int] = set()
        seen: set[int] = set()
        target: int | None = lasti
        while target is not None and target not in seen:
            seen.add(target)
            if target in exits:
                head = exits[target]
                lines.update(range(head.lineno, (head.end_lineno or head.lineno) + 1))
            target = next((entry.target for entry in handlers if entry.start <= target < entry.end), None)
        loads = [instruction for instruction in bytecode if instruction.line_number in lines]
        return {name for load in loads if _LOADS.search(load.opname) for name in _names(load.argval)}

    def _names(argval: str | tuple[str, ...]) -> tuple[str, ...]:
        # Some instructions load two variables, or load one and store another.
        return (argval,) if isinstance(argval, str) else argval

else:  # pragma: <3.13 cover

    def held_while_running(frame: FrameType) -> set[int]:
        """Return nothing: here, to look at the variables of a frame that runs changes them for a debugger."""
        return set()
