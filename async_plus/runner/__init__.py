"""`run`: `asyncio.run` for services, which are stopped in order.

The modules, each built on those before it. Only the first three are imported with the package, the others by `run`:

    stopping.py     has the program been told to stop
    options.py      the options of run(), checked
    running.py      run() itself: what it takes and promises
    exits.py        the ways a process ends at once
    threads.py      the default executor, whose threads do not hold up the exit
    notify.py       the service manager: systemd's protocol
    leftover.py     the tasks that are left when main has ended
    watchdog.py     a thread that ends a process that would not stop
    signals.py      the handlers of SIGTERM and SIGINT
    lifecycle.py    from the first step of main to the end of the loop
"""

from __future__ import annotations

from async_plus.runner.running import run, run_coroutine
from async_plus.runner.stopping import stopping

__all__ = ["run", "run_coroutine", "stopping"]
