"""``python -m async_plus run``: what it runs, by what policy, and what it says of bad input."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

import async_plus
from async_plus import cli
from async_plus.supervision.policy import Policy

SOURCE = """
import asyncio, functools, logging, sys
import async_plus

calls = []

async def once():
    calls.append((asyncio.current_task().get_name(), type(asyncio.get_running_loop()).__module__,
                  asyncio.get_running_loop().get_debug()))

async def flaky():
    calls.append(len(calls) + 1)
    if len(calls) < 3:
        raise LookupError(len(calls))

async def broken():
    raise OSError("refused")

async def leave():
    sys.exit(3)

async def needs_url(url): ...

async def stream():
    yield 1

def plain(): ...

def lying():
    raise AssertionError

class Feed:
    async def run(self): ...

    @classmethod
    async def start(cls):
        calls.append("start")

    async def __call__(self):
        calls.append("called")

feed = Feed()
partial = functools.partial(needs_url, "a")

@async_plus.supervised(delays=[0])
async def supervised():
    calls.append("supervised")

hidden = async_plus.impatient(log_after=5)(supervised)

@async_plus.entry_point
async def entry(): ...

class MyError(Exception):
    class Inner(Exception): ...
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A module in the current folder, which is not on sys.path yet; returns its calls."""
    (tmp_path / "clitestapp.py").write_text(SOURCE)
    (tmp_path / "clitestbroken.py").write_text("import clitestmissing\n")
    (tmp_path / "clitestpackage").mkdir()
    (tmp_path / "clitestpackage" / "__init__.py").write_text("")
    (tmp_path / "clitestpackage" / "module.py").write_text("from clitestapp import once\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("clitest")]:
        del sys.modules[name]


def calls():
    return sys.modules["clitestapp"].calls


def run(*argv):
    return cli.main(["run", *argv])


def options_given(monkeypatch):
    given = []
    monkeypatch.setattr(cli, "run_coroutine", lambda what, main, args, kwargs, options: given.append(options))
    return given


class TestRun:
    """It supervises and runs a coroutine function of the current folder."""

    def test_it_runs_to_its_end(self, app):
        """In an attempt of its own, by the name of the function. Its value is not the exit code."""
        assert run("clitestapp:once") == 0
        assert calls() == [("once#1", "asyncio.unix_events", False)]

    def test_it_may_be_in_a_package(self, app):
        """Dots go down into packages and classes."""
        assert run("clitestpackage.module:once", "--name", "job") == 0
        assert run("clitestapp:Feed.start") == 0
        assert run("clitestapp:feed") == 0
        assert run("clitestapp:partial") == 0
        assert [name for name, *_ in calls()[:1]] == ["job#1"]
        assert calls()[1:] == ["start", "called"]

    def test_it_is_restarted_when_it_fails(self, app, caplog):
        """By the policy that the flags give."""
        assert run("clitestapp:flaky", "--delays", "0,0.001", "--on", "LookupError", "--max-restarts", "5") == 0
        assert calls() == [1, 2, 3]
        failures = [record for record in caplog.records if hasattr(record, "async_plus_delay")]
        assert [record.async_plus_delay for record in failures] == [0, 0.001]

    def test_an_error_that_is_not_restarted_is_raised(self, app):
        """With its traceback, and the process exits with 1. It begins with the user's code."""
        with pytest.raises(OSError, match="refused") as caught:
            run("clitestapp:broken", "--restart", "never")
        assert [entry.name for entry in caught.traceback[1:]] == ["run", "main", "broken"]

    def test_an_exit_is_raised(self, app):
        """With the code of the service."""
        with pytest.raises(SystemExit) as caught:
            run("clitestapp:leave")
        assert caught.value.code == 3

    def test_a_supervised_function_is_run_as_it_is(self, app):
        """Under another decorator as well. It is not supervised twice."""
        assert run("clitestapp:supervised") == run("clitestapp:hidden", "--grace", "5", "--drain", "1") == 0
        assert calls() == ["supervised", "supervised"]

    def test_the_loop_is_chosen(self, app):
        """uvloop if one has it, and asyncio's debug mode."""
        pytest.importorskip("uvloop", reason="it does not exist on Windows")
        assert run("clitestapp:once", "--loop", "uvloop", "--debug") == 0
        assert calls() == [("once#1", "uvloop", True)]

    def test_times_of_the_stop_are_passed_on(self, app, monkeypatch):
        """As they are given."""
        given = options_given(monkeypatch)

        run("clitestapp:once", "--grace", "2.5", "--drain", "1")
        run("clitestapp:once")

        assert [(options.grace, options.drain) for options in given] == [(2.5, 1), (10, 0)]

    def test_options_of_diagnosis_are_passed_on(self, app, monkeypatch):
        """A signal by its name, as people write it; or none."""
        given = options_given(monkeypatch)

        run("clitestapp:once", "--dump-signal", "SIGUSR2", "--watch-loop", "0.5")
        run("clitestapp:once", "--dump-signal", "usr2")
        run("clitestapp:once", "--dump-signal", "none")
        run("clitestapp:once")

        assert [(options.dump_signal, options.watch_loop) for options in given] == [
            (signal.SIGUSR2, 0.5),
            (signal.SIGUSR2, None),
            (None, None),
            (signal.SIGUSR1, None),
        ]

    def test_the_command_line_of_the_process_is_the_default(self, app, monkeypatch):
        """As for every console script."""
        monkeypatch.setattr(sys, "argv", ["async-plus", "run", "clitestapp:once"])

        assert cli.main() == 0


class TestFlags:
    """Every option of a policy is a flag."""

    def test_each_option_of_a_policy_has_a_flag(self):
        """An option that is added to @supervised is added here."""
        assert list(cli.POLICY_FLAGS) == list(inspect.signature(Policy).parameters)

    def test_each_is_read_as_what_it_is_in_python(self, app, monkeypatch):
        """Numbers, lists, exceptions by their dotted names."""
        policies = []
        monkeypatch.setattr(cli, "supervised", lambda **policy: policies.append(policy) or (lambda fn: fn))

        run(
            *("clitestapp:once", "--delays", "0,10,60", "--random-shift", "1.5", "--reset-after", "30"),
            *("--on", "OSError, clitestapp.MyError,clitestapp.MyError.Inner,asyncio.TimeoutError"),
            *("--restart", "always", "--max-restarts", "5", "--heartbeat", "30", "--ready", "--name", "job"),
        )

        error = sys.modules["clitestapp"].MyError
        assert policies == [
            {
                "delays": [0, 10, 60],
                "random_shift": 1.5,
                "reset_after": 30,
                "on": (OSError, error, error.Inner, asyncio.TimeoutError),
                "restart": "always",
                "max_restarts": 5,
                "heartbeat": 30,
                "ready": True,
                "name": "job",
            }
        ]

    def test_what_is_not_given_is_left_to_the_policy(self, app, monkeypatch):
        """Its defaults are told in one place."""
        policies = []
        monkeypatch.setattr(cli, "supervised", lambda **policy: policies.append(policy) or (lambda fn: fn))

        run("clitestapp:once")

        assert policies == [{}]


PLAIN = 'must be a coroutine function, but plain is a plain function (is "async" missing before "def"?)'

BAD = {
    "no command": ([], "the command must be 'run', got nothing (try: async-plus run pkg.module:function)"),
    "no such command": (["start"], "the command must be 'run', got 'start' (try: async-plus run pkg.module:function)"),
    "a forgotten command": (
        ["clitestapp:once", "--grace", "1"],
        "the command must be 'run', got 'clitestapp:once' (try: async-plus run clitestapp:once)",
    ),
    "a flag before the command": (
        ["--grace", "1", "run", "clitestapp:once"],
        "the command must be 'run', got '--grace' (try: async-plus run pkg.module:function)",
    ),
    "nothing to run": (["run"], "the following arguments are required: pkg.module:function"),
    "no colon": (["run", "clitestapp"], "what to run is given as pkg.module:function, got 'clitestapp'"),
    "no function": (["run", "clitestapp:"], "what to run is given as pkg.module:function, got 'clitestapp:'"),
    "relative": (["run", ".clitestapp:once"], "what to run is given as pkg.module:function, got '.clitestapp:once'"),
    "a file": (["run", "clitestapp.py"], "give the module, not its file: clitestapp:main"),
    "a file below": (["run", "src/app.py:go"], "give the module, not its file: src.app:go"),
    "a file here": (["run", "./app.py"], "give the module, not its file: app:main"),
    "a file by its whole path": (
        ["run", os.path.join(os.sep, "src", "app.py")],
        "give the module, not its file: app:main",
    ),
    "nothing but an ending": (["run", ".py"], "give the module, not its file: :main"),
    "a dot for the colon": (
        ["run", "pkg.app.main"],
        "what to run is given as pkg.module:function, got 'pkg.app.main' (did you mean pkg.app:main?)",
    ),
    "a call": (
        ["run", "clitestapp:once()"],
        "what to run is given as pkg.module:function, got 'clitestapp:once()' (did you mean clitestapp:once?)",
    ),
    "no such module": (["run", "clitestnone:main"], "there is no module 'clitestnone' here or on sys.path"),
    "no such submodule": (
        ["run", "clitestpackage.none:main"],
        "there is no module 'clitestpackage.none' here or on sys.path",
    ),
    "no such package": (["run", "clitestnone.none:main"], "there is no module 'clitestnone' here or on sys.path"),
    "no such function": (["run", "clitestapp:onec"], "module 'clitestapp' has no 'onec' (did you mean once?)"),
    "no such method": (["run", "clitestapp:Feed.qqqq"], "'Feed' has no 'qqqq'"),
    "plain function": (["run", "clitestapp:plain"], f"clitestapp:plain {PLAIN}"),
    "class": (
        ["run", "clitestapp:Feed"],
        "clitestapp:Feed must be a coroutine function, but Feed is a class (pass its async methods)",
    ),
    "entry point": (
        ["run", "clitestapp:entry"],
        "clitestapp:entry must be a coroutine function, but calls of entry return no coroutine "
        "(is it under @watched or @entry_point? pass the function without it)",
    ),
    "needs arguments": (
        ["run", "clitestapp:needs_url"],
        "clitestapp:needs_url must be callable without arguments, but: missing a required argument: 'url' "
        "(write a coroutine function that calls it)",
    ),
    "arguments given": (
        ["run", "clitestapp:needs_url", "http://localhost"],
        "clitestapp:needs_url is called without arguments, got 'http://localhost'",
    ),
    "supervised already": (
        ["run", "clitestapp:hidden", "--delays", "1", "--max-restarts", "3"],
        "clitestapp:hidden is supervised already, so --delays, --max-restarts must go into its @supervised(...)",
    ),
    "no number": (
        ["run", "clitestapp:once", "--grace", "soon"],
        "--grace must be a number of seconds, got 'soon'",
    ),
    "no list of numbers": (
        ["run", "clitestapp:once", "--delays", "1,,2"],
        "--delays must be a number of seconds, got ''",
    ),
    "no count": (
        ["run", "clitestapp:once", "--max-restarts", "1.5"],
        "--max-restarts must be a whole number, got '1.5'",
    ),
    "out of range": (
        ["run", "clitestapp:once", "--delays", "1,inf"],
        "--delays must be a finite number of seconds >= 0, got inf",
    ),
    "negative": (
        ["run", "clitestapp:once", "--random-shift=-1"],
        "--random-shift must be a finite number of seconds >= 0, got -1",
    ),
    "negative time of a stop": (
        ["run", "clitestapp:once", "--drain=-1"],
        "--drain must be a finite number of seconds >= 0, got -1",
    ),
    "no signal": (
        ["run", "clitestapp:once", "--dump-signal", "USR3"],
        "--dump-signal must be a signal such as SIGUSR1, or none, got 'USR3'",
    ),
    "signal of a stop": (
        ["run", "clitestapp:once", "--dump-signal", "TERM"],
        "--dump-signal must be another signal than those that stop the program, got SIGTERM",
    ),
    "threshold of zero": (
        ["run", "clitestapp:once", "--watch-loop", "0"],
        "--watch-loop must be a finite number of seconds > 0, got 0",
    ),
    "no choice": (
        ["run", "clitestapp:once", "--restart=often"],
        "--restart: invalid choice: 'often' (choose from ...)",
    ),
    "unknown exception": (
        ["run", "clitestapp:once", "--on", "MyError"],
        "--on must name exception types, got 'MyError' "
        "(one that is not built in needs its module, as in aiohttp.ClientError)",
    ),
    "unknown module of an exception": (
        ["run", "clitestapp:once", "--on", "OSError,clitestnone.Error"],
        "--on must name exception types, got 'clitestnone.Error'",
    ),
    "unknown exception of a module": (
        ["run", "clitestapp:once", "--on", "clitestapp.Error"],
        "--on must name exception types, got 'clitestapp.Error'",
    ),
    "no exception": (
        ["run", "clitestapp:once", "--on", "asyncio.sleep"],
        "--on must name exception types, got 'asyncio.sleep'",
    ),
    "no name of an exception": (
        ["run", "clitestapp:once", "--on", "a b.c"],
        "--on must name exception types, got 'a b.c'",
    ),
    "unknown flag": (["run", "clitestapp:once", "--grase", "1"], "nothing is known of --grase (did you mean --grace?)"),
    "abbreviated flag": (["run", "clitestapp:once", "--max", "1"], "nothing is known of --max"),
}


@pytest.mark.parametrize(("argv", "message"), BAD.values(), ids=BAD)
def test_bad_input_exits_with_2_and_one_clear_line(app, capsys, argv, message):
    """The line says what is wrong, and what to type instead where that is known. Nothing runs."""
    assert cli.main(argv) == 2

    out, err = capsys.readouterr()
    # What the choices are is written in more than one way.
    line = "".join([*err.partition("(choose from ")[:2], "...)\n"]) if "(choose from " in err else err
    assert (out, line) == ("", f"async-plus: {message}\n")


class TestUsersModule:
    """What is wrong inside it, its own traceback tells best."""

    def test_an_error_in_it_is_let_through(self, app):
        """It is no bad input that the module lacks a package. The way to the module is not shown."""
        with pytest.raises(ModuleNotFoundError, match="clitestmissing") as caught:
            run("clitestbroken:main")
        assert [(entry.path.name, entry.name) for entry in caught.traceback[2:]] == [
            ("cli.py", "main"),
            ("clitestbroken.py", "<module>"),
        ]

    def test_an_error_without_a_line_that_has_run_is_shown_in_full(self, app):
        """Where no frame is the user's, none is left out."""
        (app / "clitestsyntax.py").write_text("def main(:\n")

        with pytest.raises(SyntaxError) as caught:
            run("clitestsyntax:main")
        assert [entry.name for entry in caught.traceback[1:6]] == ["run", "main", "main", "_read", "_load"]

    def test_an_error_in_the_module_of_an_exception_is_let_through(self, app):
        """The same goes for that."""
        with pytest.raises(ModuleNotFoundError, match="clitestmissing"):
            run("clitestapp:once", "--on", "clitestbroken.Error")

    def test_a_nameless_import_error_is_let_through(self, app):
        """Anybody may raise one."""
        (app / "clitestnameless.py").write_text("raise ModuleNotFoundError('install something')\n")

        with pytest.raises(ModuleNotFoundError, match="install something"):
            run("clitestnameless:main")

    def test_uvloop_must_be_installed(self, app, monkeypatch, capsys):
        """It is no dependency of ours."""
        monkeypatch.setitem(sys.modules, "uvloop", None)

        assert run("clitestapp:once", "--loop", "uvloop") == 2
        message = "async-plus: --loop uvloop needs the package uvloop (pip install uvloop)\n"
        assert capsys.readouterr().err == message


class TestLogging:
    """It is set up, if nobody else has."""

    @contextlib.contextmanager
    def no_handlers(self):
        # In the test itself: pytest's own handlers come after the fixtures.
        root = logging.getLogger()
        before = root.level, root.handlers[:]
        root.handlers[:] = []
        try:
            yield root
        finally:
            root.setLevel(before[0])
            root.handlers[:] = before[1]

    def test_it_shows_what_happens_from_info_on(self, app, capsys):
        """With time, level and logger."""
        with self.no_handlers() as root:
            assert run("clitestapp:flaky", "--delays", "0") == 0
            assert root.level == logging.INFO

        [line] = [line for line in capsys.readouterr().err.splitlines() if "restart 1" in line]
        said = r"WARNING async_plus: flaky failed after \d\.\d s with LookupError, restart 1 in 0\.0 s"
        assert re.search(f" {said}$", line)

    def test_what_the_module_has_set_up_stays(self, app):
        """It is imported before."""
        (app / "clitestlogging.py").write_text(
            "import logging\nlogging.basicConfig(level=logging.ERROR)\nfrom clitestapp import once\n"
        )

        with self.no_handlers() as root:
            assert run("clitestlogging:once") == 0
            assert len(root.handlers) == 1
            assert root.level == logging.ERROR


class TestCommand:
    """``python -m async_plus``, and ``async-plus`` as it is installed."""

    def test_the_module_is_the_command(self, app, monkeypatch):
        """The exit code is that of main."""
        monkeypatch.setattr(sys, "argv", ["async_plus", "run", "clitestapp:once"])

        with pytest.raises(SystemExit) as caught:
            runpy.run_module("async_plus", run_name="__main__")
        assert caught.value.code == 0

    def test_importing_the_module_does_nothing(self):
        """Tools import all there is."""
        runpy.run_module("async_plus.__main__", run_name="imported")

    def test_it_tells_its_version(self, capsys):
        """On standard output."""
        with pytest.raises(SystemExit) as caught:
            cli.main(["--version"])
        assert caught.value.code == 0
        assert capsys.readouterr().out == f"async_plus {async_plus.__version__}\n"

    @pytest.mark.parametrize("argv", [["--help"], ["run", "--help"]])
    def test_its_help_tells_of_every_flag(self, capsys, argv):
        """Whoever asks for help with everything gets the commands, and of a command the flags."""
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert "usage: async-plus" in out
        assert len(argv) == 1 or all(f"--{option.replace('_', '-')}" in out for option in cli.POLICY_FLAGS)

    def test_it_tells_the_defaults_of_a_policy(self):
        """As they are in Python, or in words where there is no number."""
        told = {name: flag["help"].rpartition("(default: ")[2][:-1] for name, flag in cli.POLICY_FLAGS.items()}
        said = {name: option.default for name, option in inspect.signature(Policy).parameters.items()}

        assert told["delays"] == ",".join(map(str, said["delays"]))
        assert told["random_shift"] == str(said["random_shift"])
        assert told["on"] == said["on"].__name__
        assert told["restart"] == said["restart"]
        in_words = {"reset_after", "max_restarts", "heartbeat", "ready", "name"}
        assert {name for name, default in said.items() if default is None or default is False} == in_words

    @pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, -signal.SIGINT)])
    def test_a_process_runs_a_service_until_it_is_told_to_stop(self, app, signum, code):
        """The installed command finds the current folder as well. Ctrl-C prints no traceback: it would show only us."""
        (app / "clitestservice.py").write_text(
            textwrap.dedent("""
                import asyncio

                async def serve():
                    print("here", flush=True)
                    try:
                        await asyncio.sleep(3600)
                    finally:
                        print("cleaned up")
            """)
        )
        command = Path(sysconfig.get_path("scripts")) / "async-plus"
        with subprocess.Popen(
            [command, "run", "clitestservice:serve"], cwd=app, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout.readline() == "here\n", process.stderr.read()
                process.send_signal(signum)
                out, err = process.communicate(timeout=30)
            finally:
                process.kill()
        assert (process.returncode, out) == (code, "cleaned up\n")
        assert re.sub(r"^.*? INFO ", "", err, flags=re.MULTILINE) == (
            f"async_plus: {signum.name}: stopping (drain 0 s, grace 10 s)\nasync_plus: serve stopped, attempt 1\n"
        )

    def test_a_ctrl_c_alone_is_kept_quiet_about(self, app, monkeypatch, capsys):
        """Another error that comes after it is still shown."""

        def interrupted(*args, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "run_coroutine", interrupted)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)

        with pytest.raises(KeyboardInterrupt) as caught:
            run("clitestapp:once")
        sys.excepthook(KeyboardInterrupt, caught.value, None)
        sys.excepthook(ValueError, ValueError("at exit"), None)

        assert capsys.readouterr().err == "ValueError: at exit\n"
