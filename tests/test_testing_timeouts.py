"""What a test that runs out of time shows, and the plugin beside others: each test here runs a small test suite."""

from __future__ import annotations

import asyncio
import importlib
import sys

import freezegun  # noqa: F401  # loaded here for good: the inner runs unload what they are the first to load
import pytest
import trio  # noqa: F401
from tools import RUN_TWICE

SECTION = "*- async_plus snapshot -*"

HANGING = """
async def job():
    await asyncio.Event().wait()

def ring_when_idle():
    # As pytest-timeout's alarm does, without the waiting: when the loop would go to sleep for good.
    selector = asyncio.get_running_loop()._selector
    select = selector.select
    def ring(timeout):
        if timeout is None:
            signal.raise_signal(signal.SIGALRM)
        return select(timeout)
    selector.select = ring

"""


@pytest.fixture
def run(run_suite):
    """Runs tests, most of which hang, in a project of their own."""

    def run(source, *args, mode="auto", prelude=HANGING, **options):
        source = f"import asyncio\nimport signal\nimport pytest\n{prelude}{source}"
        return run_suite(source, *args, mode=mode, **options)

    return run


class TestSnapshotOnTimeout:
    """snapshot_on_timeout shows what had hung, and only then."""

    def test_a_timeout_shows_what_hung_before_anything_was_cancelled(self, run):
        """The group that the timeout cancels is still there, and so is the test's own place."""
        result = run(
            "async def test_it(snapshot_on_timeout, virtual_clock):\n"
            "    async with asyncio.timeout(5), asyncio.TaskGroup() as group:\n"
            "        group.create_task(job(), name='worker')\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([SECTION, "*'worker' (job) parked on Event.wait*", "*:6 in job"])
        result.stdout.fnmatch_lines([SECTION, "*(test_it) parked on TaskGroup with 'worker'*"])

    def test_wait_for_shows_the_other_tasks(self, run):
        """Before Python 3.12 it is seen when the error comes out of the test, as any TimeoutError."""
        result = run(
            "async def test_it(snapshot_on_timeout, virtual_clock):\n"
            "    worker = asyncio.create_task(job(), name='worker')\n"
            "    await asyncio.wait_for(asyncio.Event().wait(), 5)\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([SECTION, "*'worker' (job) parked on Event.wait*", "*:6 in job"])

    def test_a_test_of_unittest_shows_what_hung(self, run):
        """It is called by unittest, on a loop of its own."""
        result = run(
            "import unittest\nclass TestIt(unittest.IsolatedAsyncioTestCase):\n"
            "    @pytest.mark.usefixtures('snapshot_on_timeout')\n    async def test_it(self):\n"
            "        async with asyncio.timeout(0):\n            await job()\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([SECTION, "1 task: 1 parked", "*(TestIt.test_it) parked on Event.wait, timeout*"])

    def test_a_timeout_that_was_handled_is_not_shown_for_a_later_error(self, run):
        """The look belongs to the error that fails the test."""
        result = run(
            "async def test_it(snapshot_on_timeout, virtual_clock):\n"
            "    with pytest.raises(TimeoutError):\n"
            "        async with asyncio.timeout(5), asyncio.TaskGroup() as group:\n"
            "            group.create_task(job(), name='early')\n"
            "    worker = asyncio.create_task(job(), name='late')\n"
            "    await asyncio.sleep(1)\n"
            "    raise TimeoutError\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([SECTION, "*'late' (job) parked on Event.wait"])
        result.stdout.no_fnmatch_line("*'early' (job) parked*")

    def test_a_timeout_of_another_task_is_not_mistaken_for_the_tests_own(self, run):
        """It may fire at any time, and says nothing of why the test failed."""
        result = run(
            "async def other():\n"
            "    async with asyncio.timeout(5.1):\n        await job()\n\n"
            "async def test_it(snapshot_on_timeout, virtual_clock):\n"
            "    task = asyncio.create_task(other(), name='other')\n"
            "    try:\n"
            "        async with asyncio.timeout(5), asyncio.TaskGroup() as group:\n"
            "            group.create_task(job(), name='worker')\n"
            "    finally:\n"
            "        await asyncio.wait([task])\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([SECTION, "*'worker' (job) parked on Event.wait"])

    def test_what_is_shown_is_not_shown_again(self, run):
        """Neither for what fails while the same test is torn down, nor when it is run once more."""
        conftest = 'pytest_plugins = ["async_plus.testing"]\n' + RUN_TWICE
        result = run(
            "runs = 0\n\n@pytest.fixture\ndef server():\n    yield\n    assert runs == 2\n\n"
            "async def test_it(snapshot_on_timeout, server):\n    global runs\n    runs += 1\n"
            "    raise TimeoutError if runs == 1 else ValueError\n",
            conftest=conftest,
        )

        result.assert_outcomes(failed=2, errors=1)
        result.stdout.fnmatch_lines_random(["E * TimeoutError", SECTION, "E * assert 1 == 2", "E * ValueError"])
        assert result.stdout.str().count("async_plus snapshot") == 1

    def test_what_an_expected_failure_had_to_show_is_not_shown_for_a_later_one(self, run):
        """An xfail shows nothing, and what fails after it is something else."""
        result = run(
            "@pytest.fixture\ndef server():\n    yield\n    assert False\n\n"
            "@pytest.mark.xfail(raises=TimeoutError)\n"
            "async def test_it(snapshot_on_timeout, server):\n    raise TimeoutError\n"
        )

        result.assert_outcomes(xfailed=1, errors=1)
        result.stdout.no_fnmatch_line(SECTION)

    @pytest.mark.parametrize("with_fixture", [True, False])
    def test_a_deadlock_on_the_virtual_clock_is_shown(self, run, with_fixture):
        """Asking for the virtual clock is enough: there, a deadlock is how a test runs out of time."""
        fixture = "snapshot_on_timeout, virtual_clock" if with_fixture else "virtual_clock"
        result = run(
            f"async def test_it({fixture}):\n"
            "    first, second = asyncio.Lock(), asyncio.Lock()\n"
            "    async def take(one, other):\n"
            "        async with one:\n"
            "            await asyncio.sleep(1)\n"
            "            async with other:\n"
            "                pass\n"
            "    async with asyncio.TaskGroup() as group:\n"
            "        group.create_task(take(first, second), name='a')\n"
            "        group.create_task(take(second, first), name='b')\n"
        )

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["E * RuntimeError: deadlock on the virtual clock: *", SECTION, "deadlock: 'a' -> 'b' -> 'a'"]
        )

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM on Windows")
    @pytest.mark.parametrize(
        "source",
        [
            "async def test_it(snapshot_on_timeout):\n    ring_when_idle()\n    await job()\n",
            "@pytest.mark.anyio\nasync def test_it(snapshot_on_timeout):\n    ring_when_idle()\n    await job()\n",
            "async def main():\n    ring_when_idle()\n    await job()\n\n"
            "def test_it(snapshot_on_timeout):\n    asyncio.run(main())\n",
            "@pytest.fixture\nasync def server():\n    ring_when_idle()\n    await job()\n\n"
            "async def test_it(snapshot_on_timeout, server):\n    pass\n",
        ],
        ids=["asyncio", "anyio", "plain", "fixture"],
    )
    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_pytest_timeout_shows_what_the_loop_was_doing(self, run, source, mode):
        """Its signal ends a test wherever that hangs: in a fixture, or in a loop that the test has started itself."""
        if mode == "strict":
            source = source.replace("async def test_it", "@pytest.mark.asyncio\nasync def test_it")
            source = source.replace("@pytest.mark.anyio\n@pytest.mark.asyncio", "@pytest.mark.anyio")
            source = source.replace("@pytest.fixture", "import pytest_asyncio\n@pytest_asyncio.fixture")

        result = run(source, "--timeout=3600", "--timeout-method=signal", "-p", "no:trio", mode=mode)

        assert sum(result.parseoutcomes().get(kind, 0) for kind in ("failed", "error", "errors")) >= 1
        result.stdout.fnmatch_lines([SECTION, "*parked on*", "*:6 in job"])
        result.stdout.fnmatch_lines(["E * Failed: Timeout (>3600.0s) from pytest-timeout."])

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM on Windows")
    def test_an_alarm_of_the_users_own_is_left_alone(self, run):
        """pytest-timeout's method "thread" sets none, and then theirs is what it was."""
        result = run(
            "def theirs(signum, frame):\n    pass\n\n"
            "@pytest.fixture(scope='module', autouse=True)\ndef handler():\n"
            "    before = signal.signal(signal.SIGALRM, theirs)\n    yield\n"
            "    signal.signal(signal.SIGALRM, before)\n\n"
            "@pytest.mark.parametrize('n', [1, 2])\ndef test_it(snapshot_on_timeout, n):\n"
            "    assert signal.getsignal(signal.SIGALRM) is theirs\n",
            "--timeout=3600",
            "--timeout-method=thread",
        )

        result.assert_outcomes(passed=2)

    def test_an_alarm_outside_of_a_loop_shows_nothing(self, run):
        """There are no tasks to look at."""
        result = run(
            "def test_it(snapshot_on_timeout):\n    signal.raise_signal(signal.SIGALRM)\n",
            "--timeout=3600",
            "--timeout-method=signal",
        )

        result.assert_outcomes(failed=1)
        result.stdout.no_fnmatch_line(SECTION)

    @pytest.mark.parametrize(
        "source",
        [
            "async def test_it():\n    async with asyncio.timeout(0):\n        await job()\n",
            "async def test_it():\n    ring_when_idle()\n    await job()\n",
        ],
    )
    def test_nothing_is_shown_unless_asked_for(self, run, source):
        """The plugin alone changes no report."""
        result = run(source, "--timeout=3600", "--timeout-method=signal")

        result.assert_outcomes(failed=1)
        result.stdout.no_fnmatch_line(SECTION)

    def test_other_failures_and_tests_that_pass_show_nothing(self, run):
        """A timeout that the test expects is none of its own; and asyncio is as it was afterwards."""
        before = asyncio.Timeout._on_timeout
        result = run(
            "async def test_passes(snapshot_on_timeout, virtual_clock):\n"
            "    with pytest.raises(TimeoutError):\n"
            "        async with asyncio.timeout(5):\n            await job()\n\n"
            "async def test_fails(snapshot_on_timeout, virtual_clock):\n    assert False\n\n"
            "def test_plain(snapshot_on_timeout):\n    pass\n",
            "-rA",
            "-p",
            "no:timeout",
        )

        result.assert_outcomes(passed=2, failed=1)
        result.stdout.no_fnmatch_line(SECTION)
        assert asyncio.Timeout._on_timeout is before


BESIDE = """
import freezegun, datetime

@pytest.fixture(autouse=True)
def check(no_leaks, snapshot_on_timeout):
    pass

def same_cancelling():
    asyncio.current_task().cancel()

@pytest.mark.asyncio
async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))

@pytest.mark.asyncio
async def test_virtual(virtual_clock):
    await asyncio.sleep(3600)
    assert virtual_clock.elapsed == 3600

@pytest.mark.asyncio
@freezegun.freeze_time("2030-01-01")
async def test_frozen(virtual_clock):
    await asyncio.sleep(3600)
    assert datetime.datetime.now() == datetime.datetime(2030, 1, 1, 1)

@pytest.mark.asyncio
async def test_leaking():
    asyncio.create_task(asyncio.sleep(60), name="poller")
    await asyncio.sleep(0)

@pytest.mark.anyio
async def test_anyio_clean(anyio_backend_name):
    import anyio
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio_leaking():
    asyncio.create_task(asyncio.sleep(60), name="anyio poller")
    await asyncio.sleep(0)
"""


class TestBesideOthers:
    """The fixtures do their work whatever other plugins there are."""

    @pytest.mark.parametrize("order", [(), ("-p", "anyio")])
    def test_asyncio_and_anyio_tests_in_one_file(self, run, order):
        """In the strict mode each plugin takes its own tests, on asyncio and trio, and what they leave is found."""
        result = run(BESIDE, *order, "-rA", mode="strict")

        # clean, virtual, frozen, leaking; and of anyio's on both backends
        result.assert_outcomes(passed=6, failed=1, errors=1)
        result.stdout.fnmatch_lines_random(
            [
                "PASSED *::test_anyio_clean?asyncio?",
                "PASSED *::test_anyio_clean?trio?",
                "the test left tasks running: 'poller' on sleep, 60.0 s left",
                "the test left tasks running: 'anyio poller' on sleep, 60.0 s left",
            ]
        )

    @pytest.mark.parametrize("order", [(), ("-p", "anyio")])
    def test_in_the_auto_mode_pytest_asyncio_takes_them_all(self, run, order):
        """That is its rule, and those marked anyio are checked all the same."""
        result = run(BESIDE, *order, "-rA", "-k", "not trio", mode="auto")

        result.assert_outcomes(passed=5, failed=1, errors=1, deselected=1)

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    @pytest.mark.parametrize("order", [(), ("-p", "anyio")])
    def test_virtual_time_is_refused_to_a_test_marked_anyio(self, run, mode, order):
        """Its loop is not the one whose clock the fixture would show."""
        result = run(
            "@pytest.mark.anyio\n@pytest.mark.parametrize('anyio_backend', ['asyncio'])\n"
            "async def test_it(virtual_clock):\n    pass\n",
            *order,
            mode=mode,
        )

        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            ["E * RuntimeError: virtual_clock needs a test that pytest-asyncio runs: mark this one asyncio, not anyio"]
        )

    def test_without_pytest_asyncio_it_says_what_to_install(self, monkeypatch):
        """The error is no riddle about a module that the user never imported."""
        forget_testing(monkeypatch)
        monkeypatch.setitem(sys.modules, "pytest_asyncio", None)

        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module("async_plus.testing")

        assert str(caught.value) == (
            "async_plus.testing needs pytest-asyncio 1.4 or newer (pip install 'pytest-asyncio>=1.4')"
        )

    def test_another_module_that_is_missing_is_named_by_python(self, monkeypatch):
        """Only pytest-asyncio is answered for."""
        forget_testing(monkeypatch)
        monkeypatch.setitem(sys.modules, "async_plus.testing.leaks", None)

        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module("async_plus.testing")

        assert caught.value.name == "async_plus.testing.leaks"


def forget_testing(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("async_plus.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("async_plus.testing", None, raising=False)
