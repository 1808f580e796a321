"""docs/security.md: its commands are run as they stand there, against a real verifier."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import replace
from processes import running_verifier

from outrider_common.config_loading import load_settings
from outrider_common.errors import PermissionDeniedError, UnauthenticatedError
from outrider_common.messages import Commit, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec
from outrider_common.watched_files import LOOK_EVERY_S
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.link_security import LinkSecurity

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
OUTRIDER = [sys.executable, "-m", "outrider"]
SPEC = SyntheticSpec(vocab=200, acceptance=0.8, c0_s=0.001, c1_s=0, positions=512)
TO_BE_RUN = re.compile(r"^```(bash|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONG_RUNNING = ("outrider verifier serve", "outrider doctor")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything on the page has been done, up to starting programs that go on."""
    monkeypatch.chdir(tmp_path)
    for kind, block in TO_BE_RUN.findall(PAGE.read_text()):
        if kind == "toml":
            name = block.partition("\n")[0].removeprefix("# ")
            with (tmp_path / name).open("a") as file:
                file.write(block)
        elif not block.startswith(LONG_RUNNING):
            run(block)
    return tmp_path


def run(commands: str) -> None:
    """Run a block of the page, with `outrider` as it is here."""
    ours = f'outrider() {{ "{sys.executable}" -m outrider "$@"; }}\nset -e\n'
    done = subprocess.run(
        ["bash", "-c", ours + commands], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def link_to(address: str, **changes: object) -> GrpcLink:
    """A link as edge.toml has it, to where the verifier listens."""
    edge = load_settings(Path("edge.toml")).settings.edge.model_copy(update=changes)
    host = edge.verifier.partition(":")[0]
    port = address.rpartition(":")[2]
    return GrpcLink(f"{host}:{port}", connect_timeout_s=10, security=LinkSecurity.of(edge))


async def num_tokens(link: GrpcLink) -> int:
    message = OpenSession((1, 2), 2, 20, SamplingParams(), SPEC.tokenizer_fingerprint)
    session = await link.open(message, 65536)
    total = 0
    while (event := await session.receive()) is not None:
        total += len(event.tokens) if isinstance(event, Commit) else 0
    return total


def allow_this_model(directory: Path) -> None:
    file = directory / "tenants.toml"
    replace(file, file.read_bytes().replace(b'"smollm2-135m"', f'"{SPEC}"'.encode()))


async def test_what_the_page_sets_up_works_and_lets_nobody_else_in(directory: Path) -> None:
    with running_verifier(OUTRIDER, str(SPEC), "--config", "verifier.toml") as address:
        async with link_to(address) as link:
            with pytest.raises(PermissionDeniedError, match="'acme' may not use 'synthetic:"):
                await num_tokens(link)
            allow_this_model(directory)
            await asyncio.sleep(LOOK_EVERY_S)
            assert await num_tokens(link) == 20
        async with link_to(address, token_file=None) as link:  # the certificate alone
            assert await num_tokens(link) == 20
        run('sh issue.sh stranger "URI:spiffe://example.org/edge/8"')
        of_stranger = {"tls_certificate": Path("stranger.pem"), "tls_key": Path("stranger.key")}
        async with link_to(address, token_file=None, **of_stranger) as link:
            with pytest.raises(UnauthenticatedError):
                await num_tokens(link)


def test_what_is_unsafe_is_one_sentence_before_a_model_is_loaded() -> None:
    done = subprocess.run(
        [*OUTRIDER, "verifier", "serve", "--model", "none", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for remedy in ("verifier.tls_certificate", "verifier.tenants", "127.0.0.1", "--insecure"):
        assert remedy in done.stderr
