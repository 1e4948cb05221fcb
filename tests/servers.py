"""Real servers for the recipes, each on a free port and in a folder of its own, and none outlives its tests.

They are those of Debian's packages postgresql and redis-server, wherever they are installed. Where one is not, its
tests are skipped with that reason; with ``REQUIRE_SERVERS`` in the environment, as ``.ci/run`` has it, they fail.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

# Where Debian keeps what is not for the PATH; the newest first.
POSTGRES_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -float(folder.parent.name))


def program(name, package, folders=()):
    """Return the path of a server's program, or skip the test that needs it."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        reason = f"{name} is not installed (Debian has it in the package {package})"
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def free_port():
    """Return a port that nobody listens on. It stays free while a server restarts.

    Below those that the kernel gives to clients, of which one could get it meanwhile.
    """
    while True:
        port = random.randint(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def until(true, what, seconds=30):
    """Wait until the function *true* returns something true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} after {seconds} s")
        time.sleep(0.02)


class Server:
    """A server in a process of its own, which can be stopped, killed and started again with the same data."""

    def __init__(self):
        self.port = free_port()
        # Not in a folder of pytest's, which another user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="async_plus-"))
        self.process = None
        self.as_user = {}

    def command(self):
        raise NotImplementedError

    def answers(self):
        raise NotImplementedError

    def start(self):
        log = self.folder / "log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, **self.as_user
            )
        until(lambda: self.process.poll() is not None or self.answers(), "the server does not answer")
        assert self.process.poll() is None, log.read_text()

    def end(self, signum):
        """End the server by a signal, and wait until it is gone."""
        self.process.send_signal(signum)
        self.process.wait(30)

    def restart(self, signum):
        self.end(signum)
        self.start()

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            self.end(self.AT_ONCE)
        shutil.rmtree(self.folder)


class Postgres(Server):
    # The postmaster's own signals: connections are closed; and the same as after a crash, with recovery at the start.
    IN_ORDER, AT_ONCE = signal.SIGINT, signal.SIGQUIT

    def __init__(self):
        self._postgres = program("postgres", "postgresql", POSTGRES_FOLDERS)
        initdb = program("initdb", "postgresql", POSTGRES_FOLDERS)
        super().__init__()
        if os.getuid() == 0:
            # It refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            self.as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        made = subprocess.run(
            [initdb, "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
            cwd=self.folder, capture_output=True, text=True, **self.as_user,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

    @property
    def dsn(self):
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def command(self):
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                   "max_connections": 30, "shared_buffers": "16MB", "autovacuum": "off"}  # fmt: skip
        return [self._postgres, "-D", "data", *(f"--{name}={value}" for name, value in options.items())]

    def answers(self):
        import psycopg

        try:
            psycopg.connect(self.dsn, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class Redis(Server):
    IN_ORDER, AT_ONCE = signal.SIGTERM, signal.SIGKILL

    def __init__(self):
        self._redis = program("redis-server", "redis-server")
        super().__init__()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def command(self):
        return [self._redis, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
                "--appendfsync", "always"]  # fmt: skip

    def answers(self):
        import redis

        try:
            with redis.Redis(port=self.port, socket_timeout=5) as client:
                return client.ping()
        except redis.RedisError:
            return False


@contextlib.contextmanager
def running(kind):
    """Run a server of that *kind* for the length of the block."""
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()
