"""The daemon under a service manager: what it says, and how it takes new settings."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from brokers import running_broker
from notifications import Listener, listening_manager

pytestmark = pytest.mark.slow

SERVE = (sys.executable, "-m", "outrider", "edge", "serve", "--port", "0")
NOWHERE = "127.0.0.1:1"
JOURNAL = "[log]\nformat = 'journal'\n"


@contextmanager
def a_service(
    directory: Path, bundle: Path, listener: Listener, *options: str
) -> Iterator["subprocess.Popen[str]"]:
    """A daemon that waits for its verifier, with `settings.toml` in the directory."""
    config = directory / "settings.toml"
    with subprocess.Popen(
        [*SERVE, "--config", config, "--verifier", NOWHERE, "--bundle", bundle, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "3000000"},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def test_it_says_how_it_is_reloads_on_sighup_and_stops_on_sigterm(
    int4_bundle_dir: Path, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f"[sampling]\nmax_tokens = 5\n{JOURNAL}")
    with (
        listening_manager(tmp_path / "notify") as listener,
        a_service(tmp_path, int4_bundle_dir, listener) as process,
    ):
        assert "Listening on http://127.0.0.1:" in listener.until("READY")["STATUS"]
        listener.until("WATCHDOG")
        config.write_text(f"[sampling]\nmax_tokens = 6\n[daemon]\nstop_grace_s = 1.0\n{JOURNAL}")
        process.send_signal(signal.SIGHUP)
        listener.until("RELOADING")
        assert listener.until("READY")["STATUS"] == (
            "Reloaded; to be started anew for daemon.stop_grace_s."
        )
        config.write_text("[sampling]\nmax_tokens = 'many'\n")
        process.send_signal(signal.SIGHUP)
        said = listener.until("READY")["STATUS"]
        assert said.startswith("The settings stay as they were. sampling.max_tokens is 'many'")
        process.terminate()
        listener.until("STOPPING")
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
    assert any(line.startswith("<3>settings_refused reason=") for line in lines)
    assert any(line.startswith("<4>verifier_awaited") for line in lines)


def test_a_broker_without_the_file_for_its_password_does_not_stop_the_daemon(
    int4_bundle_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text("")
    with running_broker(tmp_path / "broker") as broker, listening_manager() as listener:
        options = broker.options("kiosk-1")
        Path(options[options.index("--fleet-password-file") + 1]).unlink()
        with a_service(tmp_path, int4_bundle_dir, listener, *options) as process:
            listener.until("READY")
            assert process.stderr is not None
            while "fleet_away" not in (line := process.stderr.readline()):
                assert line
            assert "kiosk-1.password cannot be read" in line
            process.terminate()
            process.stderr.read()
            assert process.wait(timeout=60) == 0
