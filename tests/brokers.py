"""A real Mosquitto on a free port of loopback, with the configuration that is delivered."""

import datetime
import ipaddress
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outrider_common.settings.fleet import FleetSettings

DELIVERED: Final = Path(__file__).resolve().parents[1] / "deploy" / "mosquitto"
MOSQUITTO: Final = "/usr/sbin/mosquitto"
PASSWORD: Final = "correct horse"
USERS: Final = ("operator", "kiosk-1", "kiosk-2", "kiosk-3")


@dataclass
class Broker:
    """A broker that can be stopped and started again; what it keeps outlives that.

    Attributes:
        directory: its files.
        port: where it listens.
        is_over_tls: whether it has certificates, made by `write_certificates`.
    """

    directory: Path
    port: int
    is_over_tls: bool = False
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        with (self.directory / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-v", "-c", self.directory / "outrider.conf"], stdout=log, stderr=log
            )
        self._wait_until_it_listens()

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def _wait_until_it_listens(self) -> None:
        """The test's own time limit is the only one."""
        assert self._process is not None
        while True:
            assert self._process.poll() is None, (self.directory / "mosquitto.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.is_over_tls else 'mqtt'}://127.0.0.1:{self.port}"

    def settings(self, user: str, password: str = PASSWORD, **others: object) -> FleetSettings:
        """The settings of a device or an operator."""
        path = self.directory / f"{user}.password"
        path.write_text(f"{password}\n")
        fields = {"device_id": user, "telemetry_interval_s": 1.0, **others}
        return FleetSettings(broker=self.url, username=user, password_file=path, **fields)  # type: ignore[arg-type]

    def options(self, user: str, password: str = PASSWORD) -> list[str]:
        """The same for the command line."""
        settings = self.settings(user, password)
        path = str(settings.password_file)
        return [
            *("--fleet-broker", self.url, "--fleet-username", user),
            *("--fleet-password-file", path, "--fleet-device-id", user),
        ]


@contextmanager
def running_broker(directory: Path, *, is_over_tls: bool = False) -> Iterator[Broker]:
    """The delivered broker, as far as a test can have it."""
    directory.mkdir(exist_ok=True)
    broker = Broker(directory, _free_port(), is_over_tls)
    if is_over_tls:
        write_certificates(directory)
    _write_configuration(broker)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _write_configuration(broker: Broker) -> None:
    """The delivered files with another port, other places, and without TLS unless it is wanted."""
    directory = broker.directory
    text = (DELIVERED / "outrider.conf").read_text()
    text = text.replace("listener 8883", f"listener {broker.port} 127.0.0.1")
    text = re.sub(r"/etc/mosquitto/(certs/)?", f"{directory}/", text)
    text = text.replace("/var/lib/mosquitto/", f"{directory}/")
    if not broker.is_over_tls:
        text = re.sub(r"(?m)^(cafile|certfile|keyfile) .*\n", "", text)
    if os.geteuid() == 0:
        text += "user root\n"  # else it could not read its files here
    (directory / "outrider.conf").write_text(text)
    (directory / "outrider.acl").write_text((DELIVERED / "outrider.acl").read_text())
    passwords = directory / "outrider.passwd"
    passwords.write_text("".join(f"{user}:{PASSWORD}\n" for user in USERS))
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    for name in ("outrider.acl", "outrider.passwd"):
        (directory / name).chmod(0o600)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def write_certificates(directory: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself; returns the file by which it is known."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(where, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "ca.crt").write_bytes(pem)
    (directory / "broker.crt").write_bytes(pem)
    (directory / "broker.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return directory / "ca.crt"
