"""Runs both units under a real systemd, in namespaces of its own, with real models; as root.

Prints what was tried and what came of it; ends with a status other than 0 where it was not as it
must be. Takes two minutes, and leaves nothing behind.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SYSTEM_UNITS: Final = Path("/lib/systemd/system")
JOURNALD: Final = (
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)
EMPTY_TARGETS: Final = ("basic", "sysinit", "shutdown", "multi-user", "network-online", "sockets")
NAMESPACES: Final = ("--pid", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc")
CGROUP_ROOTS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
EDGE: Final = "outrider-edge"
VERIFIER: Final = "outrider-verifier"
LIMIT_S: Final = 120.0
KEY: Final = {"Idempotency-Key": "one"}


@dataclass(frozen=True)
class Machine:
    """A systemd that runs.

    Attributes:
        pid: of its first process, as seen from here.
        url: of the daemon.
    """

    pid: int
    url: str

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in its namespaces."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-C", "--"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False)

    def systemctl(self, *arguments: str) -> int:
        return self.inside("systemctl", *arguments).returncode

    def shown(self, unit: str, name: str) -> str:
        return self.inside("systemctl", "show", "-p", name, "--value", unit).stdout.strip()

    def in_service(self, unit: str, script: str) -> str:
        """The output of a script that sees the files that a service sees."""
        pid = self.shown(unit, "MainPID")
        return self.inside("nsenter", "-t", pid, "-m", "--", "sh", "-c", script).stdout.strip()

    def ask(self, **parameters: Any) -> str:
        (card,) = httpx2.get(f"{self.url}/v1/models").json()["data"]
        body = {"model": card["id"], "messages": [{"role": "user", "content": "Name a river."}]}
        said = httpx2.post(
            f"{self.url}/v1/chat/completions",
            json=body | {"max_tokens": 12} | parameters,
            headers=KEY,
            timeout=LIMIT_S,
        )
        said.raise_for_status()
        document = said.json()
        return json.dumps([document["id"], document["choices"]])


@contextlib.contextmanager
def machine(store: Path, model: str, bundle: str) -> Iterator[Machine]:
    """Boot one; it is gone when this ends."""
    verifier_port, port = _free_port(), _free_port()
    with tempfile.TemporaryDirectory() as name, _own_cgroup() as cgroup:
        directory = Path(name)
        directory.chmod(0o755)
        _write_units(directory)
        (directory / "settings.toml").write_text(
            f'[edge]\nverifier = "127.0.0.1:{verifier_port}"\n'
            f'bundle = "/opt/store/bundles/{bundle}"\n'
            f'[verifier]\nport = {verifier_port}\nmodel = "/opt/store/models/{model}"\n'
            f"[daemon]\nport = {port}\nstop_grace_s = 2.0\n"
        )
        process = subprocess.Popen(
            [*("unshare", "--fork", "--kill-child", *NAMESPACES, "sh"), *_setup(directory, store)],
            preexec_fn=lambda: cgroup.joinpath("cgroup.procs").write_text(str(os.getpid())),
        )
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            booted = Machine(int(_until(children.read_text)), f"http://127.0.0.1:{port}")
            _until(lambda: booted.systemctl("is-active", "--quiet", "machine.target") == 0)
            yield booted
        finally:
            process.kill()
            process.wait()


def _setup(directory: Path, store: Path) -> list[str | Path]:
    site = sysconfig.get_paths()["purelib"]
    script = REPOSITORY / "tests" / "deploy" / "systemd_machine.sh"
    return [
        script,
        directory,
        sys.base_prefix,
        site,
        REPOSITORY,
        store,
        directory / "settings.toml",
    ]


def _write_units(directory: Path) -> None:
    for name in JOURNALD:
        shutil.copy(SYSTEM_UNITS / name, directory)
    for name in (EDGE, VERIFIER):
        shutil.copy(REPOSITORY / "deploy" / "systemd" / f"{name}.service", directory)
    for name in EMPTY_TARGETS:
        (directory / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (directory / "machine.target").write_text("[Unit]\nWants=systemd-journald.service\n")


@contextlib.contextmanager
def _own_cgroup() -> Iterator[Path]:
    """A cgroup that becomes the root of the machine's."""
    root = next(root for root in CGROUP_ROOTS if (root / "cgroup.procs").exists())
    cgroup = root / f"outrider-{os.getpid()}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        folders = [path for path in sorted(cgroup.rglob("*"), reverse=True) if path.is_dir()]
        for path in (*folders, cgroup):
            _until(partial(_is_empty, path))
            path.rmdir()


def _is_empty(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.procs").read_text()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def _until(find: Callable[[], Any]) -> Any:
    """What is found, once there is something."""
    end = time.monotonic() + LIMIT_S
    while not (found := find()):
        if time.monotonic() > end:
            raise TimeoutError("it did not come to that")
        time.sleep(0.1)
    return found


class Report:
    """Says what was tried; remembers whether all was well."""

    def __init__(self) -> None:
        self.is_good = True

    def row(self, what: str, found: object, is_good: bool) -> None:
        self.is_good &= is_good
        mark = "" if is_good else " **wrong**"
        print(f"| {what} | {found}{mark} |", flush=True)  # noqa: T201


def try_start(booted: Machine, report: Report) -> None:
    """Both begin, and say that they are ready."""
    for unit in (VERIFIER, EDGE):
        began = time.monotonic()
        status = booted.systemctl("start", unit)
        report.row(f"`systemctl start {unit}`", f"{time.monotonic() - began:.1f} s", status == 0)
    ready = _until(lambda: "Ready" in booted.shown(EDGE, "StatusText"))
    report.row("status of the daemon", f"`{booted.shown(EDGE, 'StatusText')}`", bool(ready))
    report.row("an answer", "given", bool(booted.ask()))


def try_hardening(booted: Machine, report: Report) -> None:
    """What a service may not do is not possible."""
    for unit in (EDGE, VERIFIER):
        pid = booted.shown(unit, "MainPID")
        said = booted.inside("cat", f"/proc/{pid}/status").stdout
        status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        uid = status["Uid"].split()[0]
        report.row(f"`{unit}`: user", f"{uid}, no root", uid != "0")
        bounds = (status["CapEff"], status["NoNewPrivs"], status["Seccomp"])
        is_bound = int(bounds[0], 16) == 0 and bounds[1:] == ("1", "2")
        report.row("capabilities, NoNewPrivs, Seccomp", ", ".join(bounds), is_bound)
        seen = booted.in_service(unit, "ls -A /root /home 2>/dev/null | grep -vc '^/\\|^$'")
        report.row("files of `/root` and `/home` that it sees", seen, seen == "0")
        made = booted.in_service(unit, "for d in /usr /etc /opt; do touch $d/x && echo $d; done")
        report.row("of `/usr`, `/etc` and `/opt` it can write to", made or "none", made == "")


def try_reload(booted: Machine, report: Report) -> None:
    """SIGHUP reads the settings again, and refuses bad ones."""
    settings = "/etc/outrider/outrider.toml"
    booted.inside("sed", "-i", "$a [sampling]\\nmax_tokens = 5", settings)
    booted.systemctl("reload", EDGE)
    said = _until(lambda: _after(booted, "Reloaded"))
    report.row("`systemctl reload`", f"`{said}`", "Reloaded" in said)
    booted.inside("sed", "-i", "s/max_tokens = 5/max_tokens = 0/", settings)
    booted.systemctl("reload", EDGE)
    said = _until(lambda: _after(booted, "stay as they were"))
    report.row("the same with a bad value", f"`{said}`", "sampling.max_tokens" in said)
    booted.inside("sed", "-i", "s/max_tokens = 0/max_tokens = 5/", settings)


def _after(booted: Machine, word: str) -> str:
    said = booted.shown(EDGE, "StatusText")
    return said if word in said else ""


def try_death(booted: Machine, report: Report) -> None:
    """A daemon that is killed, and one that is stuck, is there again and knows its answers."""
    before = booted.ask()
    for signal, result in (("KILL", "signal"), ("STOP", "watchdog")):
        pid, began = booted.shown(EDGE, "MainPID"), time.monotonic()
        booted.systemctl("kill", "--kill-whom=main", f"--signal={signal}", EDGE)
        _until(partial(_has_begun_anew, booted, pid))
        _until(lambda: "Ready" in booted.shown(EDGE, "StatusText"))
        said = f"ready again after {time.monotonic() - began:.0f} s"
        report.row(f"SIG{signal} (`Result={result}`)", said, True)
    report.row("the answer to the same key", "the same", booted.ask() == before)


def _has_begun_anew(booted: Machine, pid: str) -> bool:
    return booted.shown(EDGE, "MainPID") not in (pid, "0")


def try_stop(booted: Machine, report: Report) -> None:
    """Both end well."""
    for unit in (EDGE, VERIFIER):
        began = time.monotonic()
        booted.systemctl("stop", unit)
        found = f"{booted.shown(unit, 'Result')}, {time.monotonic() - began:.1f} s"
        report.row(f"`systemctl stop {unit}`", found, found.startswith("success"))


def main() -> None:
    """Try everything."""
    if os.geteuid() != 0:
        sys.exit("Namespaces with a systemd need root; run it as root.")
    store = Path.home() / ".cache" / "outrider"
    report = Report()
    with machine(store, "smollm2-135m", "smollm2-135m-int8") as booted:
        print("| | |\n|---|---|")  # noqa: T201
        for attempt in (try_start, try_hardening, try_reload, try_death, try_stop):
            attempt(booted, report)
    sys.exit(0 if report.is_good else 1)


if __name__ == "__main__":
    main()
