"""`run` and signals, in real processes: how they end, what they leave behind, and what they say last."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from runs import INT, TERM, each_loop_of_programs


def normal(line):
    """A log line with no line numbers, which count from a prelude."""
    return re.sub(r":\d+ in", ":N in", line)


SERVICE = """
async def child():
    try:
        await asyncio.sleep(3600)
    finally:
        print("child cleaned up")

async def main():
    try:
        async with task_scope() as scope:
            scope.launch(child())
            asyncio.get_running_loop().call_soon(report)
            await scope.wait()
    finally:
        print("main cleaned up")

run(main, {factory})
"""


@each_loop_of_programs
def test_sigterm_lets_a_service_clean_up_and_exits_with_0(start_program, factory):
    """A loop that sleeps in the system wakes up, main is cancelled, and its scope stops what is its."""
    program = start_program(SERVICE.format(factory=factory))

    assert program.signalled(TERM) == (0, ["child cleaned up", "main cleaned up"], [])


@each_loop_of_programs
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks on Windows")
def test_a_signal_that_another_thread_receives_wakes_the_loop(start_program, factory):
    """The system's sleep of the main thread is not interrupted by it, and nothing else would ever come."""
    program = start_program(f"""
        async def main():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            asyncio.get_running_loop().call_soon(report)
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up")

        run(main, {factory})
    """)

    assert program.signalled(TERM) == (0, ["cleaned up"], [])


@each_loop_of_programs
def test_sigint_does_the_same_and_ends_in_a_keyboard_interrupt(start_program, factory):
    """The process then dies of the signal, as Python does, so that a shell knows."""
    program = start_program(SERVICE.format(factory=factory))

    code, out, err = program.signalled(INT)

    assert (code, out) == (-INT, ["child cleaned up", "main cleaned up"])
    assert err[-1] == "KeyboardInterrupt"


@each_loop_of_programs
def test_what_swallows_its_cancellation_is_named_and_the_process_exits_with_70(start_program, factory):
    """After the grace. What was printed is not lost, and the line is the last one."""
    program = start_program(f"""
        async def feed():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    print("no")

        async def main():
            async with task_scope() as scope:
                scope.launch(feed(), name="feed")
                asyncio.get_running_loop().call_soon(report)
                await scope.wait()

        async_plus.runner.lifecycle._BLOCKED = 600      # nothing depends on who is quicker
        run(main, grace=0.2, {factory})
    """)

    code, out, err = program.signalled(TERM)

    assert (code, out) == (70, ["no"])
    assert list(map(normal, err)) == [
        "CRITICAL not stopped after 0.2 s, so the process ends with code 70: "
        "'feed' parked at <string>:N in feed on Event.wait"
    ]


@each_loop_of_programs
def test_a_blocked_loop_is_named_and_the_process_exits_with_70(start_program, factory):
    """No loop handler and no timer could run any more."""
    program = start_program(f"""
        async def main():
            report()
            block()

        run(main, grace=0.2, {factory})
    """)

    code, out, err = program.signalled(TERM)

    assert (code, out) == (70, [])
    assert list(map(normal, err)) == [
        "CRITICAL not stopped after 0.2 s, so the process ends with code 70: the event loop is blocked at "
        "<string>:N in block; 'main' parked at <string>:N in block on nothing, it is running"
    ]


@each_loop_of_programs
@pytest.mark.parametrize("second", [TERM, INT])
def test_a_second_signal_ends_the_process_at_once(start_program, factory, second):
    """With the code that shells give for it, and with all that was printed."""
    program = start_program(f"""
        async def main():
            asyncio.get_running_loop().call_soon(report)
            try:
                await asyncio.Event().wait()
            finally:
                print("not waited for")
                report()
                await asyncio.Event().wait()

        run(main, {factory})
    """)

    name, code = signal.Signals(second).name, 128 + second
    last_words = f"WARNING {name} during the stop: the process ends at once with code {code}"
    assert program.signalled(TERM, second) == (code, ["not waited for"], [last_words])


def test_a_second_signal_ends_a_blocked_process_too(start_program):
    """The handlers run although the loop does not."""
    program = start_program("""
        async def main():
            handler = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *args: (handler(*args), report()))
            report()
            block()

        run(main)
    """)

    code, _, err = program.signalled(TERM, TERM)

    assert (code, err) == (128 + TERM, ["WARNING SIGTERM during the stop: the process ends at once with code 143"])


@each_loop_of_programs
def test_a_call_in_a_thread_that_never_ends_does_not_hold_up_the_exit(start_program, factory):
    """Its task is cancelled, its thread cannot be. It is named, without its arguments."""
    program = start_program(f"""
        def scan(secret):
            report()
            time.sleep(3600)

        async def main():
            await asyncio.to_thread(scan, "secret")

        async_plus.runner.lifecycle._BLOCKED = 600      # nothing depends on who is quicker
        run(main, grace=0.5, {factory})
    """)

    said = "WARNING 1 call in threads left behind, not ended within 0.5 s: scan"
    assert program.signalled(TERM) == (0, [], [said])


def test_nor_does_it_after_a_normal_return(start_program):
    """The process goes on with what main returned."""
    program = start_program("""
        async def main():
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
            return 3

        async_plus.runner.lifecycle._BLOCKED = 600      # nothing depends on who is quicker
        sys.exit(run(main, grace=0.5))
    """)

    said = "WARNING 1 call in threads left behind, not ended within 0.5 s: sleep"
    assert program.end() == (3, [], [said])


def test_a_service_in_its_backoff_stops_at_once(start_program):
    """The delay is cut short, and nothing is restarted."""
    program = start_program("""
        @supervised(delays=[3600])
        async def feed():
            raise OSError("refused")

        subscribe(lambda event: report() if isinstance(event, AttemptFailed) else None)
        run(feed)
    """)

    code, out, err = program.signalled(TERM)

    assert (code, out) == (0, [])
    assert re.fullmatch(r"WARNING feed failed after \d\.\d s with OSError, restart 1 in 3600\.0 s", err[0])
    assert err[-1] == "OSError: refused"


def test_a_service_that_waits_for_a_lock_stops(start_program):
    """What waits can be cancelled, whatever it waits for."""
    program = start_program("""
        async def hold(lock):
            async with lock:
                await asyncio.sleep(3600)

        async def main():
            lock = asyncio.Lock()
            holder = launch_watched(hold(lock))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(report)
            try:
                async with lock:
                    pass
            finally:
                print("gave up the lock")

        run(main)
    """)

    assert program.signalled(TERM) == (0, ["gave up the lock"], [])


def test_an_error_in_the_cleanup_is_shown_and_exits_with_1(start_program):
    """A stop does not hide it."""
    program = start_program("""
        async def main():
            asyncio.get_running_loop().call_soon(report)
            try:
                await asyncio.sleep(3600)
            finally:
                raise OSError("cannot save")

        run(main)
    """)

    code, out, err = program.signalled(TERM)

    assert (code, out) == (1, [])
    assert err[-1] == "OSError: cannot save"


def test_an_exit_in_any_task_stops_the_rest_in_order(start_program):
    """sys.exit(3) three calls deep is the exit code of the process."""
    program = start_program("""
        async def check():
            await asyncio.sleep(0)
            sys.exit(3)

        async def main():
            launch_watched(check())
            try:
                await asyncio.sleep(3600)
            finally:
                print("cleaned up")

        run(main)
    """)

    assert program.end() == (3, ["cleaned up"], [])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no fork on Windows")
def test_a_forked_child_can_be_terminated(start_program):
    """It has inherited the handlers, but it is not the process that they are for."""
    program = start_program("""
        import multiprocessing, warnings

        def work(write):
            os.write(write, b"!")
            time.sleep(3600)

        async def main():
            read, write = os.pipe()
            process = multiprocessing.get_context("fork").Process(target=work, args=[write])
            process.start()
            os.read(read, 1)        # signals that come while Python forks are lost
            process.terminate()
            process.join()
            print("child", process.exitcode)
            await asyncio.sleep(0.01)
            print("main goes on")

        warnings.simplefilter("ignore", DeprecationWarning)     # of fork() beside threads
        run(main)
    """)

    assert program.end() == (0, ["child -15", "main goes on"], [])


def test_an_entry_point_is_fit_for_console_scripts(tmp_path):
    """A script of an installed package calls ``sys.exit(main())``."""
    (tmp_path / "app.py").write_text("import async_plus\n@async_plus.entry_point\nasync def main():\n    return 4\n")
    script = "import sys; from app import main; sys.exit(main())"

    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 4
