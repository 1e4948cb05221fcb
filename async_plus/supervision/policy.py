"""`Policy`: when and how a supervised service is restarted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from async_plus import _checks
from async_plus._coroutines import close_unstarted
from async_plus.engine.delayer import DELAYS, Schedule, check_delays
from async_plus.supervision.vitals import Hung

__all__ = ["NEVER_RESTARTED", "Policy", "RestartOn", "RestartWhen", "Service", "declare", "declared"]

RestartWhen: TypeAlias = Literal["on_error", "always", "never"]
RestartOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool | float]

# A run of these seconds shows that a service works, however short its delays are.
_LEAST_RESET_AFTER = 60.0

_SERVICE = "_async_plus_service"

# One that wraps itself, as a mock does, has no end.
_MAX_LAYERS = 100

# These end the program or the coroutine: no policy turns them into a restart.
NEVER_RESTARTED = (SystemExit, KeyboardInterrupt, GeneratorExit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The options of a supervised service, checked when it is made. Times are in seconds.

    Raises:
        TypeError: An option is of a wrong kind.
        ValueError: An option is out of its range.
    """

    delays: Iterable[float] = DELAYS
    random_shift: float = 0
    reset_after: float | None = None
    on: RestartOn = Exception
    restart: RestartWhen = "on_error"
    max_restarts: int | None = None
    heartbeat: float | None = None
    ready: bool = False
    name: str | None = None
    # What `on` names; nothing if it is a function.
    _types: tuple[type[BaseException], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        delays = check_delays(self.delays)
        reset_after = self.reset_after
        if reset_after is None:
            reset_after = max(_LEAST_RESET_AFTER, *delays)
        checked: dict[str, object] = {
            "delays": delays,
            "random_shift": _checks.seconds("random_shift", self.random_shift),
            "reset_after": _checks.seconds("reset_after", reset_after),
            "_types": _check_on(self.on),
        }
        if self.heartbeat is not None:
            checked["heartbeat"] = _checks.seconds("heartbeat", self.heartbeat, above_zero=True)
        if self.max_restarts is not None:
            checked["max_restarts"] = _checks.count("max_restarts", self.max_restarts, least=0)
        for option, value in checked.items():
            object.__setattr__(self, option, value)
        _checks.one_of("restart", self.restart, get_args(RestartWhen))
        if self.ready is not True and self.ready is not False:
            raise TypeError(f"ready must be True or False, got {_checks.kind(self.ready)}")
        if self.name is not None:
            _checks.string("name", self.name)

    def schedule(self) -> Schedule:
        """Return a place of its own in the delays."""
        return Schedule(tuple(self.delays), self.random_shift)

    @property
    def has_vitals(self) -> bool:
        """Whether the service tells of itself while it runs."""
        return self.heartbeat is not None or self.ready

    def is_stable(self, ran_for: float) -> bool:
        """Tell whether an attempt of *ran_for* seconds shows that the service works."""
        return self.reset_after is not None and ran_for > self.reset_after

    def answer(self, exc: BaseException) -> bool | float:
        """Tell whether *exc* calls for a restart; a number is the delay that it asks for.

        An exception group calls for one if every exception in it does, and then the longest delay wins; or if `on`
        names a type of group that it is. `Hung` always calls for one.

        Raises:
            TypeError: `on` returned neither True, False nor a number.
            ValueError: `on` returned a number that is no delay.
        """
        leaves = _leaves(exc)
        if self.restart == "never" or any(isinstance(leaf, NEVER_RESTARTED) for leaf in leaves):
            return False
        if self._types:
            # Exception names no group, though every ExceptionGroup is one.
            groups = tuple(filter(_is_group_type, self._types))
            return isinstance(exc, groups) or all(isinstance(leaf, (*self._types, Hung)) for leaf in leaves)
        answers = [isinstance(leaf, Hung) or self._ask(leaf) for leaf in leaves]
        if any(answer is False for answer in answers):
            return False
        return max((answer for answer in answers if answer is not True), default=True)

    def _ask(self, exc: BaseException) -> bool | float:
        # In its type it takes an Exception, as most people write such a function; it is asked of the others as well.
        on = cast("Callable[[BaseException], object]", self.on)
        answer = on(exc)
        if answer is True or answer is False:
            return answer
        try:
            return _checks.seconds("the delay returned by on", answer)
        except TypeError:
            pass  # said better below
        # An async function in a lambda, say.
        close_unstarted(answer)
        raise TypeError(f"on must return True, False or a number of seconds, got {_checks.kind(answer)}")


class Service(NamedTuple):
    """What a supervised function says of itself."""

    policy: Policy
    name: str


def declare(fn: Callable[..., Any], service: Service) -> None:
    """Have `declared` find *service* on *fn*, and on what is made from it by wrapping and binding."""
    # functools.wraps copies it, a bound method looks through to its function.
    vars(fn)[_SERVICE] = service


def declared(fn: Any) -> Service | None:
    """Return the supervised service that calling *fn* runs, None if it is another function."""
    for _ in range(_MAX_LAYERS):
        closure = getattr(fn, "_self_wrapper", None)
        method = type(fn).__call__ if callable(fn) else None
        for layer in (fn, closure, method):
            service = getattr(layer, _SERVICE, None)
            # A mock has every attribute, and each is another mock.
            if isinstance(service, Service):
                return service
        inner = fn.func if isinstance(fn, functools.partial) else getattr(fn, "__wrapped__", None)
        if inner is None:
            return None
        fn = inner
    return None


def _leaves(exc: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions that are no groups: *exc* itself, or those in it."""
    if not isinstance(exc, BaseExceptionGroup):
        return (exc,)
    group = cast("BaseExceptionGroup[BaseException]", exc)
    return tuple(leaf for inner in group.exceptions for leaf in _leaves(inner))


def _is_group_type(kind: type[BaseException]) -> bool:
    return issubclass(kind, BaseExceptionGroup)


def _check_on(on: object) -> tuple[type[BaseException], ...]:
    """Return the exception types that *on* names, none if it is a function.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty.
    """
    # ExceptionGroup[ValueError] is neither type nor function, though it can be called.
    if not isinstance(on, (type, tuple, GenericAlias)):
        if not callable(on):
            what = "an exception type, a tuple of them, or a function of the exception"
            raise TypeError(f"on must be {what}, got {_kind(on)}")
        _checks.callback("on", on, "taking an exception")
        return ()
    types = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
    for kind in types:
        if not _is_exception_type(kind):
            raise TypeError(f"on must name exception types, got {_kind(kind)}")
    if not types:
        raise ValueError("on must not be empty: use restart='never' for a service that is never restarted")
    return cast("tuple[type[BaseException], ...]", types)


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _kind(value: object) -> str:
    hint = " object (name its type)" if isinstance(value, BaseException) else ""
    return _checks.kind(value) + hint
