"""What all events have in common."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import MISSING, FrozenInstanceError, dataclass
from typing import Any, ClassVar, NoReturn, TypeVar, cast, dataclass_transform

from async_plus.stacks import Place

__all__ = ["Event", "count_of", "event", "one_line"]

_E = TypeVar("_E")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(kind: type[_E]) -> type[_E]:
    """Make a frozen, slotted dataclass of a *kind* of event, whose fields are given by name.

    What it does as such, all kinds do by the methods of `Event`. To have dataclasses write and compile them for each
    kind takes four times as long as all the rest, and every program would wait for that at its start.
    """
    return dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(kind)


class _Signature:
    """What `help` and `inspect.signature` show of a kind of event."""

    def __get__(self, instance: object, kind: Any) -> inspect.Signature:
        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=field.type,
            )
            for field in dataclasses.fields(kind)
        ]
        return inspect.Signature(parameters)


@event
class Event:
    """Something the library noticed. Its fields are the facts, `str()` is the line that is logged.

    .. versionadded:: 1.0
    """

    __signature__ = _Signature()

    format: ClassVar[str]
    level: int

    @property
    def args(self) -> tuple[object, ...]:
        """The arguments of `format`."""
        raise NotImplementedError

    @property
    def place(self) -> Place | None:
        """Where in the user's code it happened, which is the file, line and function of the log record."""
        return None

    @property
    def traced(self) -> BaseException | None:
        """The exception whose traceback belongs to the record."""
        return None

    @property
    def extra(self) -> dict[str, Any]:
        """The facts as flat log record attributes, each key starting with ``async_plus_``.

        Values are strings and numbers. An exception is given by its type's name, because its text may hold what
        must not be stored.
        """
        facts = {f"async_plus_{name}": _plain(value) for name, value in self._facts().items() if name != "level"}
        return {"async_plus_event": type(self).__name__} | facts

    def _facts(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(cast(Any, self))}

    def __init__(self, **facts: Any) -> None:
        fields = {field.name: field.default for field in dataclasses.fields(cast(Any, self))}
        if wrong := [name for name in facts if name not in fields]:
            raise TypeError(f"{type(self).__qualname__} has no {', '.join(wrong)}: its facts are {', '.join(fields)}")
        given = fields | facts
        if missing := [name for name, value in given.items() if value is MISSING]:
            raise TypeError(f"{type(self).__qualname__} needs {', '.join(missing)}")
        self.__setstate__(given)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return self._facts()

    def __setstate__(self, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event) or type(other) is not type(self):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(tuple(self._facts().values()))

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self._facts().items())
        return f"{type(self).__qualname__}({facts})"

    def __str__(self) -> str:
        return self.format % one_line(self.args)


def one_line(args: tuple[object, ...]) -> tuple[object, ...]:
    """Escape in the texts among *args* what would not be seen, or would begin another line of the log.

    A name may come from anywhere, with an end of line and what looks like the next record.
    """
    return tuple(_escaped(arg) if isinstance(arg, str) and not arg.isprintable() else arg for arg in args)


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def count_of(number: int, noun: str) -> str:
    """Say how many there are: "1 restart", "5 restarts"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _plain(value: object) -> object:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, BaseException):
        return type(value).__qualname__
    if isinstance(value, tuple):
        return "; ".join(map(str, cast("tuple[object, ...]", value)))
    return str(value)
