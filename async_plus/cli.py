"""``python -m async_plus run pkg.module:function``: supervise and run code that knows nothing of async_plus."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import logging
import os
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, NoReturn, get_args

from async_plus._signals import SIGUSR1
from async_plus._version import __version__
from async_plus.decorators import supervised
from async_plus.runner import run_coroutine
from async_plus.runner.options import Options
from async_plus.runner.running import why_not
from async_plus.stacks import is_user_code
from async_plus.supervision.policy import Policy, RestartWhen, declared

__all__ = ["POLICY_FLAGS", "main"]

_Main = Callable[[], Coroutine[Any, Any, Any]]

# How the help names what is to be run.
_TARGET = "pkg.module:function"

# What a command line may begin with.
_FIRST = frozenset({"run", "-h", "--help", "--version"})


class _UsageError(Exception):
    """What the user typed is wrong. The text is the one line that says so."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage, and as a policy says it: ``--grace must be ...``."""
        raise _UsageError(re.sub(r"^argument ", "", message).replace(": must ", " must ", 1))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, got {text!r}") from None


def _list_of_seconds(text: str) -> list[float]:
    return [_seconds(part) for part in text.split(",")]


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from None


def _signal(text: str) -> int | None:
    name = text.upper()
    if name == "NONE":
        return None
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise argparse.ArgumentTypeError(f"must be a signal such as SIGUSR1, or none, got {text!r}") from None


def _exceptions(text: str) -> tuple[type[BaseException], ...]:
    return tuple(map(_exception, text.split(",")))


def _exception(name: str) -> type[BaseException]:
    path = name.strip() if "." in name else f"builtins.{name.strip()}"
    try:
        found: object = pkgutil.resolve_name(path)
    except (AttributeError, ValueError):
        found = None
    except ModuleNotFoundError as exc:
        if exc.name != path.partition(".")[0]:
            raise
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        hint = "" if "." in name else " (one that is not built in needs its module, as in aiohttp.ClientError)"
        raise argparse.ArgumentTypeError(f"must name exception types, got {name!r}{hint}")
    return found


_SECONDS: dict[str, Any] = {"type": _seconds, "metavar": "SECONDS"}

# The options of a policy, by their names there, and how each is read.
POLICY_FLAGS: dict[str, dict[str, Any]] = {
    "delays": {
        "type": _list_of_seconds,
        "metavar": "SECONDS,...",
        "help": "before each restart in a row (default: 0,1,10,60)",
    },
    "random_shift": {**_SECONDS, "help": "each delay grows by a random part of these (default: 0)"},
    "reset_after": {**_SECONDS, "help": "a longer run was stable (default: the longest delay, at least 60)"},
    "on": {"type": _exceptions, "metavar": "NAME,...", "help": "what calls for a restart (default: Exception)"},
    "restart": {"choices": get_args(RestartWhen), "help": "when to restart (default: on_error)"},
    "max_restarts": {"type": _count, "metavar": "N", "help": "give up after so many in a row (default: never)"},
    "heartbeat": {**_SECONDS, "help": "restart if heartbeat() is not called as often (default: off)"},
    "ready": {"action": "store_true", "help": "it counts as started when it calls ready() (default: at once)"},
    "name": {"metavar": "NAME", "help": "its name in the log (default: that of the function)"},
}


def _parsers() -> tuple[_Parser, _Parser]:
    """Return the parser of the whole line, and that of the command within."""
    parser = _Parser(
        prog="async-plus",
        description="Supervision for asyncio services.",
        epilog="async-plus run --help tells its options.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"async_plus {__version__}")
    commands = parser.add_subparsers(required=True, metavar="run", parser_class=_Parser)
    command = commands.add_parser(
        "run",
        help="run a coroutine function as a service",
        description="Run a coroutine function as a service: restart it when it fails, stop it in order.",
        allow_abbrev=False,
    )
    command.add_argument("target", metavar=_TARGET, help="a coroutine function that needs no arguments")
    policy = command.add_argument_group("restarts", "as in @supervised; not for a function that is supervised already")
    for option, settings in POLICY_FLAGS.items():
        policy.add_argument(_flag(option), dest=option, default=argparse.SUPPRESS, **settings)
    process = command.add_argument_group("process")
    process.add_argument("--grace", **_SECONDS, default=10, help="to stop, once it is cancelled (default: 10)")
    process.add_argument("--drain", **_SECONDS, default=0, help="to end by itself, before that (default: 0)")
    process.add_argument(
        "--dump-signal",
        type=_signal,
        default=SIGUSR1,
        metavar="NAME",
        help="makes it tell what all tasks are doing (default: SIGUSR1; none: off)",
    )
    process.add_argument("--watch-loop", **_SECONDS, help="report longer blocks of the event loop (default: off)")
    process.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="(default: asyncio)")
    process.add_argument("--debug", action="store_true", default=None, help="asyncio's debug mode")
    return parser, command


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv*, that of the process by default, and return the exit code.

    What `run` raises, it raises: SystemExit and KeyboardInterrupt after a signal, and the error of the service. Python
    ends with the exit code that shells expect of each.
    """
    if not {"", os.getcwd()} & set(sys.path):
        # As for `python -m`, which the installed command is not.
        sys.path.insert(0, os.getcwd())
    try:
        service, options = _read(sys.argv[1:] if argv is None else argv)
        if not logging.getLogger().handlers:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        _run(service, options)
    except _UsageError as exc:
        print(f"async-plus: {exc}", file=sys.stderr)
        return 2
    except Exception as exc:
        # On the way to the user's code, or to the import of it, there are many frames, and all of them are ours. (It is
        # the same exception, so that there is nothing to raise it from.)
        raise exc.with_traceback(_from_user_code(exc.__traceback__))  # noqa: B904
    return 0


def _run(service: _Main, options: Options) -> None:
    try:
        run_coroutine("async-plus", service, (), {}, options)
    except KeyboardInterrupt:
        # Its traceback would show nothing but us. Still raised, it tells the shell that Ctrl-C was the end.
        sys.excepthook = _hide_interrupt
        raise


def _from_user_code(traceback: TracebackType | None) -> TracebackType | None:
    """Return *traceback* from the first frame of the user's code on; the whole of it if there is none."""
    inner = traceback
    while inner is not None:
        if is_user_code(inner.tb_frame.f_code.co_filename):
            return inner
        inner = inner.tb_next
    return traceback


def _hide_interrupt(kind: type[BaseException], exc: BaseException, tb: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, tb)


def _read(argv: Sequence[str]) -> tuple[_Main, Options]:
    given = _parse(argv)
    policy = {option: given[option] for option in POLICY_FLAGS if option in given}
    try:
        Policy(**policy)
        options = Options(
            grace=given["grace"],
            drain=given["drain"],
            dump_signal=given["dump_signal"],
            watch_loop=given["watch_loop"],
            loop_factory=_loop_factory(given["loop"]),
            debug=given["debug"],
        )
    except (TypeError, ValueError) as exc:
        # They name the option as it is called in Python.
        raise _UsageError(re.sub(r"^(\w+)(\[\d+\])?", lambda name: _flag(name[1]), str(exc))) from None
    target = given["target"]
    service = _load(target)
    if declared(service) is None:
        return supervised(**policy)(service), options
    if policy:
        flags = ", ".join(map(_flag, policy))
        raise _UsageError(f"{target} is supervised already, so {flags} must go into its @supervised(...)")
    return service, options


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    """Return what is given by the options' names; those of a policy only if they are given."""
    first = argv[0] if argv else ""
    if first not in _FIRST:
        given = repr(first) if argv else "nothing"
        target = first if ":" in first else _TARGET
        raise _UsageError(f"the command must be 'run', got {given} (try: async-plus run {target})")
    parser, command = _parsers()
    parsed, unknown = parser.parse_known_args(argv)
    if not unknown:
        return vars(parsed)
    flag = unknown[0].partition("=")[0]
    if not flag.startswith("-"):
        raise _UsageError(f"{parsed.target} is called without arguments, got {unknown[0]!r}")
    known = re.findall(r"--[\w-]+", command.format_usage())
    raise _UsageError(f"nothing is known of {flag}{_did_you_mean(flag, known)}")


def _loop_factory(name: str) -> Any:
    if name == "asyncio":
        return None
    try:
        return importlib.import_module(name).new_event_loop
    except ModuleNotFoundError:
        raise _UsageError(f"--loop {name} needs the package {name} (pip install {name})") from None


def _load(target: str) -> _Main:
    """Import the function that *target* names. What the user's module raises meanwhile is let through."""
    module, _, path = target.partition(":")
    if module.endswith(".py"):
        raise _UsageError(f"give the module, not its file: {_module_of(module)}:{path or 'main'}")
    if not _is_target(target):
        guess = target.removesuffix("()")
        guess = guess if ":" in guess else ":".join(guess.rsplit(".", 1))
        hint = f" (did you mean {guess}?)" if _is_target(guess) else ""
        raise _UsageError(f"what to run is given as {_TARGET}, got {target!r}{hint}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise _UsageError(f"there is no module {exc.name!r} here or on sys.path") from None
    at = f"module {module!r}"
    for name in path.split("."):
        if not hasattr(found, name):
            raise _UsageError(f"{at} has no {name!r}{_did_you_mean(name, dir(found))}")
        found, at = getattr(found, name), repr(name)
    reason = why_not(found)
    if reason is not None:
        raise _UsageError(f"{target} must be a coroutine function, but {reason}")
    try:
        inspect.signature(found).bind()
    except TypeError as exc:
        fix = "write a coroutine function that calls it"
        raise _UsageError(f"{target} must be callable without arguments, but: {exc} ({fix})") from None
    service: _Main = found
    return service


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    return "".join(f" (did you mean {match}?)" for match in difflib.get_close_matches(name, known, 1))


def _module_of(file: str) -> str:
    path = os.path.relpath(file).removesuffix(".py")
    # One that is not below the current folder is imported by its last name, from its own folder.
    return (os.path.basename(path) if path.startswith(os.pardir) else path).replace(os.sep, ".")


def _is_target(text: str) -> bool:
    module, _, path = text.partition(":")
    return all(part.isidentifier() for part in f"{module}.{path}".split("."))
