"""The files in recipes/deploy fit the program that they start, and each other."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys

import pytest
import yaml
from programs import RECIPES, load
from runs import TERM

from async_plus.supervision.policy import declared

DEPLOY = RECIPES / "deploy"

web_service = load("web_service")

# From the signal until the process ends in any case.
WHOLE_STOP = web_service.DRAIN + web_service.GRACE


def unit():
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "web_service.service")
    return parser


def dockerfile():
    """The instructions of the last stage, by name."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, (name, _, _) in enumerate(lines) if name == "FROM")
    return {name: value for name, _, value in lines[last:]}


def manifests():
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def pod():
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def container():
    [only] = pod()["containers"]
    return only


def options(command):
    """The options in *command* with their values, all of which have one."""
    first = next(number for number, word in enumerate(command) if word.startswith("--"))
    words = command[first:]
    return dict(zip(words[::2], words[1::2], strict=True))


COMMANDS = {
    "systemd": lambda: shlex.split(unit()["Service"]["ExecStart"]),
    "Docker": lambda: json.loads(dockerfile()["ENTRYPOINT"]) + json.loads(dockerfile()["CMD"]),
    "Kubernetes": lambda: json.loads(dockerfile()["ENTRYPOINT"]) + container()["args"],
}


def test_the_steps_of_a_stop_fit_into_the_time_for_it():
    """Main is not cancelled while it still does what it should: linger, wait for the last requests, answer them."""
    assert web_service.LINGER + web_service.IDLE + web_service.ANSWER < web_service.DRAIN


@pytest.mark.parametrize("where", COMMANDS)
def test_the_program_knows_the_options_that_it_is_started_with(where):
    """Whoever renames one hears of it here; and all of them start it to linger for as long as it says by itself."""
    known = subprocess.run(
        [sys.executable, "web_service.py", "--help"], cwd=RECIPES, capture_output=True, text=True, check=True
    ).stdout
    given = options(COMMANDS[where]())

    assert set(given) <= set(re.findall(r"--[a-z-]+", known))
    assert set(given) >= {"--host", "--port", "--linger", "--journal"}
    assert float(given["--linger"]) == web_service.LINGER


@pytest.mark.parametrize(
    ("where", "seconds"),
    [
        ("systemd", lambda: float(unit()["Service"]["TimeoutStopSec"])),
        ("Docker", lambda: float(re.search(r"--stop-timeout (\d+)", (DEPLOY / "Dockerfile").read_text())[1])),
        ("Kubernetes", lambda: float(pod()["terminationGracePeriodSeconds"])),
    ],
    ids=["systemd", "Docker", "Kubernetes"],
)
def test_the_program_has_ended_by_itself_before_it_is_killed(where, seconds):
    """Drain and grace fit in, so that what hangs is named; and nobody waits for much longer than that."""
    assert WHOLE_STOP < seconds() <= WHOLE_STOP + 10


class TestSystemd:
    def test_it_is_told_of_the_start_and_that_the_program_lives(self):
        """run() speaks to it, and a service that misses its heartbeat is restarted before the program is."""
        service = unit()["Service"]

        assert service["Type"] == "notify"
        assert service["KillSignal"] == "SIGTERM"
        assert service["Restart"] == "on-failure"
        assert float(service["WatchdogSec"]) > declared(web_service.keep_fresh).policy.heartbeat

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
    def test_systemd_has_nothing_to_say_against_the_unit(self, tmp_path):
        """Each option is known and in its section. (It exits with 0 for one that is not, so all it says counts.)"""
        copy = tmp_path / "web_service.service"
        # It looks whether the program exists.
        copy.write_text((DEPLOY / copy.name).read_text().replace("/opt/web_service/bin/python", sys.executable))

        done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)

        assert [line for line in done.stderr.splitlines() if copy.name in line] == []
        assert done.returncode == 0

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets on Windows")
    def test_the_program_says_what_the_unit_waits_for(self, start_recipe, tmp_path, monkeypatch):
        """READY when the rates are there, then that it lives, and STOPPING at the signal."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(60)
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
            monkeypatch.setenv("WATCHDOG_USEC", "100000")
            monkeypatch.delenv("WATCHDOG_PID", raising=False)
            journal = str(tmp_path / "orders.jsonl")
            program = start_recipe("web_service.py", "--port", "0", "--linger", "0", "--journal", journal)

            said = [manager.recv(100)]
            while b"READY=1" not in said or said[-1] != b"WATCHDOG=1":
                said.append(manager.recv(100))
            program.signalled(TERM)
            while said[-1] != b"STOPPING=1":
                said.append(manager.recv(100))

        assert set(said) == {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}
        assert program.end()[0] == 0


class TestContainer:
    def test_python_is_process_1_and_no_root(self):
        """As a list the command is started without a shell, which would not pass the signal on."""
        instructions = dockerfile()

        assert instructions["STOPSIGNAL"] == "SIGTERM"
        assert json.loads(instructions["ENTRYPOINT"])[0].endswith("/python")
        assert isinstance(json.loads(instructions["CMD"]), list)
        assert int(instructions["USER"]) > 0

    def test_the_file_that_it_starts_is_copied_into_it(self):
        """From where it is in the repository."""
        instructions = dockerfile()
        _, program, *_ = json.loads(instructions["ENTRYPOINT"])

        source, target = instructions["COPY"].split()
        assert (RECIPES.parent / source).is_file()
        assert target + source.rpartition("/")[2] == program

    def test_it_writes_where_its_user_may(self):
        """The folder of the journal is made for it."""
        journal = options(COMMANDS["Docker"]())["--journal"]

        assert journal.rpartition("/")[0] == dockerfile()["VOLUME"]
        assert f"install --directory --owner=web {dockerfile()['VOLUME']}" in dockerfile()["RUN"]


WITHOUT_TEMPORARY_FILES = """
import runpy, tempfile

def gettempdir():
    raise FileNotFoundError("No usable temporary directory found")

tempfile.gettempdir = gettempdir
runpy.run_path("web_service.py", run_name="__main__")
"""


class TestKubernetes:
    def test_readiness_is_noticed_while_the_program_still_serves(self):
        """From its no until the slowest probe has heard it, new requests are still taken."""
        probe = container()["readinessProbe"]

        assert probe["httpGet"]["path"] == "/readyz"
        assert probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] < web_service.LINGER

    @pytest.mark.parametrize("name", ["livenessProbe", "startupProbe"])
    def test_only_a_loop_that_does_not_answer_has_it_killed(self, name):
        """Not a service that waits to be restarted; and not at once."""
        probe = container()[name]

        assert probe["httpGet"]["path"] == "/livez"
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 30

    def test_the_probes_go_to_paths_that_there_are(self):
        """The routes of the application."""
        paths = {resource.canonical for resource in web_service.make_app(RECIPES / "none").router.resources()}

        assert {probe["httpGet"]["path"] for name, probe in container().items() if name.endswith("Probe")} <= paths

    def test_the_program_lingers_by_itself(self):
        """A sleep in a preStop hook as well would only use up the time."""
        assert "lifecycle" not in container()

    def test_it_needs_no_folder_for_temporary_files(self, start_recipe, tmp_path):
        """With a file system that is read only there is none, and whoever looks for it gets an error."""
        options = ["--port", "0", "--linger", "0", "--journal", str(tmp_path / "orders.jsonl")]
        program = start_recipe("-c", WITHOUT_TEMPORARY_FILES, *options)

        program.wait_for("listening on")
        program.signalled(TERM)

        assert program.end()[0] == 0

    def test_ports_and_labels_lead_from_the_service_to_the_program(self):
        """Each name and number is that of its neighbour."""
        deployment, service = manifests()["Deployment"]["spec"], manifests()["Service"]["spec"]
        [port], [outside] = container()["ports"], service["ports"]

        assert service["selector"] == deployment["selector"]["matchLabels"]
        assert service["selector"] == deployment["template"]["metadata"]["labels"]
        assert outside["targetPort"] == port["name"]
        assert {probe["httpGet"]["port"] for name, probe in container().items() if name.endswith("Probe")} == {"http"}
        assert port["name"] == "http"
        assert str(port["containerPort"]) == options(COMMANDS["Kubernetes"]())["--port"] == dockerfile()["EXPOSE"]

    def test_it_runs_as_the_user_of_the_image_and_writes_to_the_volume_only(self):
        """The folder of the journal is mounted, and belongs to its group."""
        [mount], [volume] = container()["volumeMounts"], pod()["volumes"]

        assert pod()["securityContext"] == {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
        assert int(dockerfile()["USER"]) == 10001
        assert container()["securityContext"]["readOnlyRootFilesystem"]
        assert mount["name"] == volume["name"]
        assert options(COMMANDS["Kubernetes"]())["--journal"].rpartition("/")[0] == mount["mountPath"]
