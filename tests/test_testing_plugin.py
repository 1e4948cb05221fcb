"""async_plus.testing as a pytest plugin, seen from a project that uses it: each test here runs a small test suite."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import freezegun  # noqa: F401  # loaded here for good: the inner runs unload what they are the first to load
import pytest
from loops import factories
from tools import RUN_TWICE

from async_plus.testing import VirtualClockLoop

CONFTEST = 'pytest_plugins = ["async_plus.testing"]\n'


@pytest.fixture
def logging_as_before():
    """Puts back what a test sets in all loggers: dictConfig() switches off those that are there, ours too."""
    root = logging.getLogger()
    loggers = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    before = [(logger, logger.disabled, logger.level) for logger in (root, *loggers)]
    handlers, last = root.handlers[:], logging.lastResort.level
    yield
    logging.disable(logging.NOTSET)
    for logger, disabled, level in before:
        logger.disabled = disabled
        logger.setLevel(level)
    root.handlers[:] = handlers
    logging.lastResort.setLevel(last)


@pytest.fixture
def run(run_suite):
    """Runs tests in a project of their own."""

    def run(source, *args, conftest=CONFTEST, **options):
        return run_suite(f"import asyncio\nimport pytest\n\n{source}", *args, conftest=conftest, **options)

    return run


class TestLoops:
    """The plugin picks the loop by what a test asks for, unless the project has its own choice."""

    def test_only_tests_that_ask_for_it_run_on_the_virtual_loop(self, run):
        """Marked or with the fixture: virtual, and with no suffix to the test's name. Others keep their loop."""
        result = run(
            """
            def is_virtual():
                return type(asyncio.get_running_loop()).__name__ == "VirtualClockLoop"

            async def test_plain():
                assert not is_virtual()

            @pytest.mark.virtual_time
            async def test_marked():
                assert is_virtual()

            async def test_with_fixture(virtual_clock):
                assert is_virtual()
            """.replace("\n            ", "\n"),
            "-v",
        )

        result.assert_outcomes(passed=3)
        result.stdout.fnmatch_lines(["*::test_plain PASSED*", "*::test_marked PASSED*", "*::test_with_fixture PASSED*"])

    @pytest.mark.parametrize("scope", ["session", "module", "class", "function"])
    @pytest.mark.parametrize("by", ["mark", "fixture"])
    def test_fixtures_of_wider_scopes_see_the_real_clocks(self, run, scope, by):
        """They are set up once for many tests, and may wait on a loop of their own. Those of the test see its time."""
        mark, clock = ("@pytest.mark.virtual_time\n", "") if by == "mark" else ("", "virtual_clock, ")
        result = run(
            f"import time\n@pytest.fixture(scope='{scope}')\ndef db():\n    return time.monotonic(), time.time()\n\n"
            f"{mark}async def test_it({clock}db):\n"
            f"    assert all((seen == 86400) is {scope == 'function'} for seen in db)\n"
            "    assert time.monotonic() == 86400\n"
        )

        result.assert_outcomes(passed=1)

    @pytest.mark.parametrize("fixture", ["", "db"])
    def test_a_marked_test_may_have_only_fixtures_of_wider_scopes(self, run, fixture):
        """Or none at all."""
        result = run(
            "import time\n@pytest.fixture(scope='session', autouse=True)\ndef db():\n    return time.time()\n\n"
            f"@pytest.mark.virtual_time\nasync def test_it({fixture}):\n    assert time.time() == 86400\n"
        )

        result.assert_outcomes(passed=1)

    def test_the_projects_own_choice_of_loops_goes_first(self, run):
        """A conftest.py with the hook decides, and may name the virtual loop itself."""
        conftest = (
            "from async_plus.testing import VirtualClockLoop\n"
            f"{CONFTEST}"
            "def pytest_asyncio_loop_factories():\n    return {'one': VirtualClockLoop, 'two': VirtualClockLoop}\n"
        )
        result = run("async def test_twice():\n    await asyncio.sleep(3600)\n", "-v", conftest=conftest)

        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["*::test_twice?one? PASSED*", "*::test_twice?two? PASSED*"])

    def test_the_clock_on_another_loop_is_refused_with_the_fix(self, run):
        """On a real loop frozen clocks would make every sleep hang; the fixture refuses instead."""
        conftest = (
            f"{CONFTEST}import asyncio\n"
            "def pytest_asyncio_loop_factories():\n    return {'real': asyncio.SelectorEventLoop}\n"
        )
        result = run("async def test_it(virtual_clock):\n    pass\n", conftest=conftest)

        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            [
                "E * RuntimeError: virtual_clock needs an async test on a VirtualClockLoop, got _UnixSelectorEventLoop "
                "(does your pytest_asyncio_loop_factories return it for this test?)"
            ]
        )

    def test_a_plain_function_cannot_have_virtual_time(self, run):
        """A synchronous test has no loop of its own to be virtual; it is told so."""
        result = run("@pytest.mark.virtual_time\ndef test_it():\n    pass\n")

        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["E * RuntimeError: virtual_clock needs an async test on a VirtualClockLoop, *"])

    def test_a_doctest_in_a_marked_module_has_real_time(self, run):
        """The mark is meant for the test functions there."""
        result = run(
            "pytestmark = pytest.mark.virtual_time\n\n"
            'def now():\n    """\n    >>> import time\n    >>> time.time() > 1e9\n    True\n    """\n\n'
            "async def test_it():\n    await asyncio.sleep(3600)\n",
            "--doctest-modules",
        )

        result.assert_outcomes(passed=2)

    def test_a_marked_parameter_leaves_the_others_alone(self, run):
        """The loop is chosen for the test as a whole. One parameter cannot have another, and is told so, alone."""
        result = run(
            "@pytest.mark.parametrize('n', [1, pytest.param(2, marks=pytest.mark.virtual_time), 3])\n"
            "async def test_it(n):\n    pass\n"
        )

        result.assert_outcomes(passed=2, errors=1)
        result.stdout.fnmatch_lines(
            [
                "E * RuntimeError: virtual_clock needs an async test on a VirtualClockLoop, got _UnixSelectorEventLoop "
                "(the mark of a single parameter comes too late for that: mark the test)"
            ]
        )

    @pytest.mark.parametrize("scope", ["class", "module", "session"])
    @pytest.mark.parametrize("by", ["mark", "setting"])
    def test_a_loop_that_tests_share_has_its_own_clock(self, run, scope, by):
        """The fixture shows the loop on which the test runs. It goes on from one test to the next, with all clocks."""
        source = (
            "import time\n"
            "class TestIt:\n"
            "    @pytest.mark.parametrize('elapsed', [60, 120])\n"
            "    async def test_it(self, virtual_clock, elapsed):\n"
            "        await asyncio.sleep(60)\n"
            "        assert virtual_clock.elapsed == elapsed\n"
            "        assert time.monotonic() == asyncio.get_running_loop().time() == virtual_clock.time()\n"
        )
        if by == "mark":
            result = run(f"pytestmark = pytest.mark.asyncio(loop_scope='{scope}')\n{source}")
        else:
            result = run(source, "-o", f"asyncio_default_test_loop_scope={scope}")

        result.assert_outcomes(passed=2)

    def test_the_loop_of_fixtures_moves_no_clock_of_the_test(self, run):
        """It may be another one, where tests share theirs."""
        result = run(
            "import time\n@pytest.fixture\nasync def server(virtual_clock):\n    await asyncio.sleep(50)\n\n"
            "@pytest.mark.asyncio(loop_scope='class')\nclass TestIt:\n"
            "    async def test_it(self, virtual_clock, server):\n        await asyncio.sleep(10)\n"
            "        assert time.monotonic() == virtual_clock.time() == 86410\n"
        )

        result.assert_outcomes(passed=1)

    def test_a_test_case_brings_its_own_loop(self, run):
        """Its clock cannot be another's, so it is told what to do instead."""
        result = run(
            "import unittest\n@pytest.mark.virtual_time\nclass TestIt(unittest.IsolatedAsyncioTestCase):\n"
            "    async def test_it(self):\n        pass\n"
        )

        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            [
                "E * RuntimeError: virtual_clock needs a test that pytest-asyncio runs: "
                "make this one a function, or a method of a class without TestCase"
            ]
        )

    def test_a_deadlock_fails_the_test(self, run):
        """A test that would hang for ever ends with the error that names where it waits, and only that."""
        result = run("@pytest.mark.virtual_time\nasync def test_it(no_leaks):\n    await asyncio.Event().wait()\n")

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E * RuntimeError: deadlock on the virtual clock: *:6 in test_it on Event.wait"])

    def test_a_test_that_deadlocked_is_over_for_the_next_one(self, run):
        """On a loop that they share, its tasks have ended, with their cleanup. Those of wider fixtures go on."""
        result = run(
            "import pytest_asyncio\n"
            "pytestmark = [pytest.mark.virtual_time, pytest.mark.asyncio(loop_scope='module')]\n"
            "ended = []\n\n"
            "async def work(name, queue):\n    try:\n        await queue.get()\n    finally:\n"
            "        await asyncio.sleep(1)\n        ended.append(name)\n\n"
            "@pytest_asyncio.fixture(scope='module', loop_scope='module')\nasync def queue():\n"
            "    server = asyncio.create_task(asyncio.Event().wait())\n    queue = asyncio.Queue()\n    yield queue\n"
            "    assert not server.done()\n    server.cancel()\n\n"
            "async def test_hangs(queue):\n    task = asyncio.create_task(work('task', queue))\n"
            "    await work('test', queue)\n\n"
            "async def test_next(queue):\n    assert sorted(ended) == ['task', 'test']\n"
            "    queue.put_nowait(1)\n    await asyncio.sleep(2)\n    assert queue.qsize() == 1\n"
        )

        result.assert_outcomes(failed=1, passed=1)
        result.stdout.fnmatch_lines(["E * RuntimeError: deadlock on the virtual clock: *"])

    def test_durations_are_real(self, run):
        """Virtual hours do not show up in pytest's own report of slow tests."""
        result = run("async def test_it(virtual_clock):\n    await asyncio.sleep(7200)\n", "--durations=1", "-vv")

        result.assert_outcomes(passed=1)
        result.stdout.re_match_lines([r"0\.\d\ds (call|setup|teardown) .*"])


LEAKY = {
    "a task": (
        "async def test_it():\n    asyncio.create_task(asyncio.sleep(60), name='poller')\n    await asyncio.sleep(0)\n",
        "the test left tasks running: 'poller' on sleep*",
    ),
    "an error": (
        "async def crash():\n    raise ZeroDivisionError\n\n"
        "async def test_it():\n    asyncio.create_task(crash(), name='saver')\n"
        "    await asyncio.sleep(0)\n    await asyncio.sleep(0)\n",
        "asyncio reported: Task exception was never retrieved",
    ),
    "an error in a reference cycle": (
        "async def crash():\n    raise ZeroDivisionError\n\n"
        "async def test_it():\n    ring = [asyncio.create_task(crash())]\n    ring.append(ring)\n"
        "    await asyncio.sleep(0)\n    await asyncio.sleep(0)\n",
        "asyncio reported: Task exception was never retrieved",
    ),
    "a coroutine": (
        "async def test_it():\n    asyncio.sleep(1)\n",
        "coroutine 'sleep' was never awaited",
    ),
    "a coroutine of a plain test": (
        "def test_it():\n    asyncio.sleep(1)\n",
        "coroutine 'sleep' was never awaited",
    ),
    "a cancellation": (
        "async def test_it():\n    asyncio.current_task().cancel()\n"
        "    try:\n        await asyncio.sleep(0)\n    except asyncio.CancelledError:\n        pass\n"
        # CPython 3.11 does not trace a coroutine again until its first step after the one that raised in it.
        "    await asyncio.sleep(0)\n",
        "the test's task was left with cancelling() == 1, it was 0",
    ),
    "a cancellation under hypothesis": (
        "from hypothesis import given, settings, strategies, HealthCheck\n"
        "@settings(max_examples=2, suppress_health_check=list(HealthCheck), database=None)\n"
        "@given(strategies.booleans())\n"
        "async def test_it(value):\n    asyncio.current_task().cancel()\n"
        "    try:\n        await asyncio.sleep(0)\n    except asyncio.CancelledError:\n        pass\n"
        # CPython 3.11 does not trace a coroutine again until its first step after the one that raised in it.
        "    await asyncio.sleep(0)\n",
        "the test's task was left with cancelling() == 1, it was 0",
    ),
}


class TestNoLeaks:
    """no_leaks fails a test for what pytest would let pass."""

    AUTOUSE = CONFTEST + "import pytest\n@pytest.fixture(autouse=True)\ndef check(no_leaks):\n    pass\n"

    @pytest.mark.parametrize("name", LEAKY)
    def test_what_a_test_leaves_behind_fails_it(self, run, name):
        """Tasks, lost errors, coroutines never awaited, a raised cancelling(): each is named."""
        source, message = LEAKY[name]

        result = run(source, conftest=self.AUTOUSE)

        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines([f"*{message}*"])

    @pytest.mark.parametrize("name", LEAKY)
    def test_a_test_without_the_check_passes(self, run, name):
        """Unless it is asked for, the check is not there: what fails above is found by it alone."""
        source, _ = LEAKY[name]

        result = run(source, "-W", "ignore")

        result.assert_outcomes(passed=1)

    def test_a_clean_test_passes(self, run):
        """Tasks that ended, errors that were seen and plain tests are no leaks."""
        source = (
            "async def crash():\n    raise ZeroDivisionError\n\n"
            "async def test_it():\n    task = asyncio.create_task(crash())\n"
            "    with pytest.raises(ZeroDivisionError):\n        await task\n\n"
            "def test_plain():\n    asyncio.run(asyncio.sleep(0))\n"
        )
        handlers = logging.getLogger("asyncio").handlers[:]

        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=2)
        assert logging.getLogger("asyncio").handlers == handlers

    def test_other_warnings_go_their_way(self, run):
        """A warning that is not about a coroutine reaches pytest."""
        source = "import warnings\n\ndef test_it():\n    warnings.warn('old')\n"

        result = run(source, "-W", "default", conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1, warnings=1)

    @pytest.mark.parametrize(
        "off",
        [
            "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})",
            "logging.config.dictConfig({'version': 1, 'loggers': {'asyncio': {'level': 'CRITICAL'}}})",
            "logging.disable()",
            "logging.getLogger('asyncio').setLevel(logging.CRITICAL)",
        ],
    )
    def test_an_error_is_found_while_asyncios_logger_is_off(self, run, off, logging_as_before):
        """It is lost all the same. The logger itself stays as the code under test has set it."""
        source = (
            "import logging.config\n\nasync def crash():\n    raise ZeroDivisionError\n\n"
            f"async def test_it(capsys):\n    logging.lastResort.setLevel('DEBUG')\n    {off}\n"
            "    asyncio.create_task(crash())\n    await asyncio.sleep(0)\n    await asyncio.sleep(0)\n"
            "    import gc\n    gc.collect()\n    logging.getLogger('asyncio').warning('warned')\n"
            "    assert capsys.readouterr().err == ''\n"
        )
        before = dict(vars(logging.getLogger("asyncio")))

        result = run(source, "-p", "no:logging", conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["asyncio reported: Task exception was never retrieved"])
        assert vars(logging.getLogger("asyncio")).keys() == before.keys()

    def test_an_error_that_the_project_filters_out_is_no_leak(self, run):
        """It has said so itself, by a filter of the logger, and goes on to get all other records."""
        source = (
            "import logging\n\nasync def test_it(caplog):\n    logger = logging.getLogger('asyncio')\n"
            "    logger.addFilter(expected := lambda record: record.getMessage() != 'expected')\n"
            "    asyncio.get_running_loop().call_exception_handler({'message': 'expected'})\n"
            "    logger.warning('other')\n    logger.removeFilter(expected)\n"
            "    assert caplog.messages == ['other']\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1)

    def test_tasks_of_other_fixtures_are_no_leaks(self, run):
        """A fixture may keep a task for its test, as long as it ends it."""
        source = (
            "@pytest.fixture\nasync def server():\n    task = asyncio.create_task(asyncio.sleep(60))\n    yield\n"
            "    task.cancel()\n    await asyncio.wait([task])\n\n"
            "async def test_it(server):\n    pass\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1)

    @pytest.mark.parametrize("asked", ["server, no_leaks", "no_leaks, server", "db, server, no_leaks"])
    def test_it_looks_when_all_other_fixtures_are_gone(self, run, asked):
        """Whatever the order they are asked for in: a fixture may end what its test has made with it."""
        source = (
            "@pytest.fixture(scope='session')\ndef db():\n    pass\n\n"
            "@pytest.fixture\nasync def server():\n    tasks = []\n    yield tasks\n"
            "    tasks[0].cancel()\n    await asyncio.wait(tasks)\n\n"
            f"async def test_it({asked}):\n    server.append(asyncio.create_task(asyncio.sleep(60), name='conn'))\n"
        )
        result = run(source)

        result.assert_outcomes(passed=1)

    def test_a_failed_test_is_not_judged_a_second_time(self, run):
        """What a failing test leaves behind is the debris of its failure, not another finding."""
        source = (
            "async def test_it():\n    task = asyncio.create_task(asyncio.sleep(60))\n    asyncio.sleep(1)\n"
            "    assert False\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(failed=1)

    def test_a_test_that_is_run_once_more_is_judged_anew(self, run):
        """Its first failure excuses nothing that its second run leaves behind."""
        source = (
            "runs = 0\n\nasync def test_it():\n    global runs\n    runs += 1\n    assert runs == 2\n"
            "    asyncio.create_task(asyncio.sleep(60), name='poller')\n    await asyncio.sleep(0)\n"
        )
        result = run(source, conftest=self.AUTOUSE + RUN_TWICE)

        result.assert_outcomes(passed=1, failed=1, errors=1)
        result.stdout.fnmatch_lines(["the test left tasks running: 'poller' *"])

    def test_nor_is_one_that_fails_as_it_should(self, run):
        """An xfail is a failure too, though pytest counts it as none."""
        source = (
            "@pytest.mark.xfail\nasync def test_it():\n    task = asyncio.create_task(asyncio.sleep(60))\n"
            "    assert False\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(xfailed=1)

    @pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
    @pytest.mark.parametrize("where", ["test", "fixture"])
    def test_nor_is_one_that_was_broken_off(self, run, how, where):
        """After Ctrl-C the earlier failures are told as ever, and the exit code is that of a run broken off."""
        source = (
            "def test_earlier():\n    assert 1 == 2\n\n"
            "async def leave():\n    global task\n    task = asyncio.create_task(asyncio.sleep(60))\n"
            f"    asyncio.sleep(1)\n    await asyncio.sleep(0)\n    {how}\n\n"
            "@pytest.fixture\nasync def broken():\n    await leave()\n\n"
        )
        source += {
            "test": "async def test_it():\n    await leave()\n",
            "fixture": "async def test_it(broken):\n    pass\n",
        }[where]
        result = run(source, conftest=self.AUTOUSE, no_reraise_ctrlc=True)

        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["* test_earlier *", "E * assert 1 == 2"])
        result.stdout.no_fnmatch_line("*the test left tasks running*")

    def test_a_task_that_is_about_to_end_is_no_leak(self, run):
        """It was cancelled by the last line, and has not been told yet."""
        source = (
            "async def test_it():\n    task = asyncio.create_task(asyncio.sleep(60))\n    await asyncio.sleep(0)\n"
            "    task.cancel()\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1)

    @pytest.mark.parametrize("scope", ["class", "module", "session"])
    def test_a_task_in_a_loop_that_tests_share(self, run, scope):
        """The loop of the test is looked at, whatever loop its fixtures have; and a task is laid to one test only."""
        source = (
            f"@pytest.mark.asyncio(loop_scope='{scope}')\nclass TestIt:\n"
            "    async def test_first(self):\n        pass\n\n"
            "    async def test_leaky(self):\n        asyncio.create_task(asyncio.sleep(60), name='poller')\n\n"
            "    async def test_last(self):\n        pass\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=3, errors=1)
        result.stdout.fnmatch_lines(
            ["* ERROR at teardown of TestIt.test_leaky *", "the test left tasks running: 'poller' *"]
        )

    def test_tests_of_unittest_are_looked_at_too(self, run):
        """Before unittest itself cancels what they leave behind. The tasks of their set-up are none of these."""
        source = (
            "import unittest\nclass TestIt(unittest.IsolatedAsyncioTestCase):\n"
            "    async def asyncSetUp(self):\n        self.server = asyncio.create_task(asyncio.sleep(60))\n\n"
            "    async def test_clean(self):\n        pass\n\n"
            "    def test_plain(self):\n        pass\n\n"
            "    async def test_task(self):\n        asyncio.create_task(asyncio.sleep(60), name='poller')\n\n"
            "    async def test_cancelled(self):\n        asyncio.current_task().cancel()\n"
            "        with pytest.raises(asyncio.CancelledError):\n            await asyncio.sleep(0)\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=2, failed=2)
        result.stdout.fnmatch_lines_random(
            [
                "*the test left tasks running: 'poller' on nothing, it has not started",
                "*the test's task was left with cancelling() == 1, it was 0",
            ]
        )

    def test_a_loss_on_purpose_is_looked_at_and_cleared(self, run):
        """A test about lost errors finds them in the fixture, and says with clear() that it has seen them."""
        source = (
            "async def test_it(no_leaks):\n    asyncio.get_running_loop().call_exception_handler({'message': 'lost'})\n"
            "    asyncio.sleep(1)\n"
            "    assert [record.getMessage() for record in no_leaks.errors] == ['lost']\n"
            "    assert no_leaks.never_awaited == [\"coroutine 'sleep' was never awaited\"]\n"
            "    no_leaks.errors.clear()\n    no_leaks.never_awaited.clear()\n"
        )
        result = run(source, conftest=self.AUTOUSE)

        result.assert_outcomes(passed=1)


class TestThisSuite:
    """The set-up of async_plus' own tests (tests/conftest.py)."""

    @pytest.fixture
    def own(self, run, pytester):
        for name in ("conftest.py", "loops.py"):
            shutil.copy(Path(__file__).with_name(name), pytester.path)
        return lambda source, *args: run(source, *args, conftest=(pytester.path / "conftest.py").read_text())

    def test_async_tests_run_on_every_loop_and_plain_ones_once(self, own):
        """default, debug, eager from 3.12 on, uvloop; and the same four on the virtual clock."""
        source = (
            "import sys\n\n"
            "async def test_real(request):\n"
            "    loop = asyncio.get_running_loop()\n"
            "    print('REAL', request.node.callspec.id, type(loop).__module__.partition('.')[0], loop.get_debug(),\n"
            "          loop.get_task_factory() is not None)\n\n"
            "async def test_virtual(request, virtual_clock):\n"
            "    loop = asyncio.get_running_loop()\n"
            "    print('VIRTUAL', request.node.callspec.id, type(loop).__name__, loop.get_debug(),\n"
            "          loop.get_task_factory() is not None)\n\n"
            "def test_plain():\n    print('PLAIN')\n"
        )
        result = own(source, "-s")

        said = re.findall("(?:REAL|VIRTUAL|PLAIN).*", result.stdout.str())
        eager = "eager" in factories(virtual=False)
        assert said == [
            "REAL default asyncio False False",
            "REAL debug loops True False",
            *(["REAL eager asyncio False True"] if eager else []),
            "REAL uvloop loops False False",
            f"VIRTUAL default {VirtualClockLoop.__name__} False False",
            "VIRTUAL debug VirtualDebugLoop True False",
            *([f"VIRTUAL eager {VirtualClockLoop.__name__} False True"] if eager else []),
            "VIRTUAL uvloop VirtualUvloop False False",
            "PLAIN",
        ]

    @pytest.mark.parametrize("loop", ["default", "debug", "uvloop"])
    def test_a_test_that_hangs_on_a_real_loop_is_ended(self, own, loop):
        """After its time limit it fails, and tells where its tasks are parked."""
        source = "@pytest.mark.time_limit(0.1)\nasync def test_it():\n    await asyncio.Event().wait()\n"

        result = own(source, "-k", loop)

        result.assert_outcomes(failed=1, deselected=len(factories(virtual=False)) - 1)
        result.stdout.fnmatch_lines(
            ["E * conftest.Hang: the test still runs after 0.1 s", "E * 'Task-*' at *:6 in test_it on Event.wait"]
        )

    @pytest.mark.parametrize("clock", ["", "virtual_clock"])
    def test_a_connection_left_open_is_an_error_and_no_hang(self, own, clock):
        """uvloop would wait for ever for what a warning, raised as an error, kept it from closing."""
        source = (
            "import socket\n\n"
            f"async def test_it({clock}):\n"
            "    global peer\n    ours, peer = socket.socketpair()\n"
            "    await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)\n\n"
            # When the loop has been closed: the other end is none of what is left open.
            "def teardown_module():\n    peer.close()\n"
        )

        result = own(source, "-k", "uvloop", "-W", "error")

        result.assert_outcomes(passed=1, errors=1, deselected=len(factories(virtual=False)) - 1)
        result.stdout.fnmatch_lines(["E *ResourceWarning: unclosed resource <*Transport *"])

    def test_a_plain_test_that_hangs_is_ended(self, own):
        """The limit holds for synchronous tests too."""
        source = "import threading\n@pytest.mark.time_limit(0.1)\ndef test_it():\n    threading.Event().wait()\n"

        result = own(source)

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E * conftest.Hang: the test still runs after 0.1 s"])
