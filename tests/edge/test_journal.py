"""The journal as the event loop sees it: what is added, and what becomes of it without a folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_runtime import a_record

from outrider_edge.choice_stream import Written
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.journal.kept_answer import Heading

BOUNDS = Bounds(max_answers=8, max_bytes=1 << 20, max_age_s=60)
HEADING = Heading("5a17", "asked", "meant", "chatcmpl-1", 1700000000, "fake", 7, 1, 3)
TOKENS = [Written(0, a_record(3 + i, character)) for i, character in enumerate("rides")]


@asynccontextmanager
async def a_journal(directory: Path) -> AsyncIterator[Journal]:
    journal = Journal(directory, BOUNDS)
    running = asyncio.create_task(journal.run())
    await asyncio.sleep(0)
    try:
        yield journal
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await journal.close()


def content(directory: Path) -> bytes:
    """Of the only file."""
    (file,) = directory.glob("*.answer")
    return file.read_bytes()


async def test_what_was_added_is_read_at_once(tmp_path: Path) -> None:
    async with a_journal(tmp_path) as journal:
        pen = await journal.begin("key", HEADING)
        for token in TOKENS:
            pen.add([token])
            answer, _ = await journal.read("key")
            assert answer is not None
            assert answer.events[-1] == token
        assert answer.events == TOKENS


async def test_what_was_added_is_in_the_file_soon(tmp_path: Path) -> None:
    async with a_journal(tmp_path) as journal:
        pen = await journal.begin("key", HEADING)
        assert b"heading" in content(tmp_path)
        pen.add(TOKENS)
        while content(tmp_path).count(b"token") < len(TOKENS):  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.01)


async def test_who_began_without_the_directory_leaves_what_is_in_it_alone(tmp_path: Path) -> None:
    first, second = Journal(tmp_path, BOUNDS), Journal(tmp_path, BOUNDS)
    pen = await first.begin("key", HEADING)
    late = await second.begin("key", HEADING)  # another daemon has it
    pen.add(TOKENS[:2])
    await first.close()
    await second.read("another")  # it has it by now
    late.add(TOKENS)
    late.lay_down(is_complete=True, is_void=False)
    answer, _ = await second.read("key")
    await second.close()
    assert answer is not None
    assert answer.events == TOKENS[:2]


async def test_a_directory_that_cannot_be_made_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "journal", BOUNDS)
    pen = await journal.begin("key", HEADING)
    pen.add(TOKENS)
    pen.lay_down(is_complete=True, is_void=True)
    assert await journal.read("key") == (None, 0)
    await journal.close()
    assert caplog.messages == ["journal_unusable"]
