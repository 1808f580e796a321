"""The audit log: one event a session, of who and how much; and nothing of what, in any log."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from secured_verifier import ANSWER, MODEL, NUM_TOKENS, answer, link_to, opened, secured_verifier

from outrider_cloud.token_file import add_token
from outrider_common import log
from outrider_common.errors import InvalidPromptError, UnauthenticatedError
from outrider_common.messages import OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.settings.log import LogFormat, LogLevel
from outrider_edge.link_security import LinkSecurity

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture(autouse=True)
def audit_logger() -> Iterator[None]:
    logger = logging.getLogger("outrider_cloud.audit")
    yield
    logger.setLevel(logging.NOTSET)


def written(level: LogLevel, form: LogFormat = "json") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, stream)
    return stream


def audits(stream: io.StringIO) -> list[dict[str, object]]:
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [event for event in events if event["event"] == "session_audit"]


def with_token(directory: Path) -> tuple[Path, LinkSecurity, str]:
    """A tenants file, what an edge shows, and the token itself."""
    tenants, file = directory / "tenants.toml", directory / "token"
    text = add_token(tenants, "acme").text
    file.write_text(text)
    return tenants, LinkSecurity(token_file=file), text


async def test_a_session_is_one_event_whatever_the_level(tmp_path: Path) -> None:
    tenants, security, token = with_token(tmp_path)
    stream = written("error")
    async with (
        secured_verifier(tenants=tenants, audit=True) as address,
        link_to(address, security) as link,
    ):
        assert await answer(link) == ANSWER
    (event,) = audits(stream)
    assert event["tenant"] == "acme"
    assert event["shown"] == f"token {token.split('_')[1]}"
    assert str(event["peer"]).startswith("ipv4:127.0.0.1:")
    assert event["session"]
    assert (event["model"], event["outcome"]) == (MODEL, "length")
    assert (event["tokens_in"], event["tokens_out"]) == (3, NUM_TOKENS)
    assert event["rows"] == NUM_TOKENS
    assert float(str(event["duration_s"])) >= 0


async def test_without_being_asked_for_it_is_silent() -> None:
    stream = written("warning")
    async with secured_verifier() as address, link_to(address) as link:
        assert await answer(link) == ANSWER
    assert stream.getvalue() == ""


async def test_a_session_that_never_ran_says_why() -> None:
    stream = written("error")
    async with secured_verifier(audit=True) as address, link_to(address) as link:
        message = OpenSession((1, 99), 2, 4, SamplingParams(), "v1:fake")
        with pytest.raises(InvalidPromptError):
            await (await link.open(message, 2048)).receive()
    (event,) = audits(stream)
    assert (event["outcome"], event["tokens_out"]) == ("invalid_prompt", 0)


async def test_an_edge_that_went_away_is_told_apart() -> None:
    stream = written("error")
    gate = threading.Event()
    async with secured_verifier(gate, audit=True) as address, link_to(address) as link:
        (await opened(link)).close()
    (event,) = audits(stream)
    assert event["outcome"] == "abandoned"


@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_that_was_asked_or_answered_and_no_token_is_ever_logged(
    tmp_path: Path, form: LogFormat
) -> None:
    tenants, security, token = with_token(tmp_path)
    stream = written("debug", form)
    prompt = (7, 3, 9, 4, 8, 6, 5, 2, 7, 1)
    wrong = tmp_path / "wrong"
    wrong.write_text(add_token(tmp_path / "others.toml", "acme").text)
    tokens: list[int] = []
    async with secured_verifier(tenants=tenants, audit=True) as address:
        async with link_to(address, security) as link:
            message = OpenSession(prompt, 10, 20, SamplingParams(), "v1:fake", ignore_eos=True)
            session = await link.open(message, 2048)
            while (event := await session.receive()) is not None:
                tokens += getattr(event, "tokens", ())
        async with link_to(address, LinkSecurity(token_file=wrong)) as link:
            with pytest.raises(UnauthenticatedError):
                await answer(link)
    said = stream.getvalue()
    assert said.count("session_audit") == 1
    assert "request_refused" in said
    for secret in (token, token[-43:], wrong.read_text(), wrong.read_text()[-43:]):
        assert secret not in said
    assert len(tokens) == 20
    for text in (prompt, tokens):
        for first in range(len(text) - 2):
            for separator in (", ", ",", " "):
                assert separator.join(map(str, text[first : first + 3])) not in said
