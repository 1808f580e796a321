"""A chat over answers in memory."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from fake_source import ENDLESS, FakeSource, TypedLines, a_screen

from outrider_common.errors import InvalidPromptError, UnavailableError
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.chat.chat import Chat
from outrider_edge.chat.terminal import InputDroppedError


async def chatted(
    source: FakeSource, *lines: str | Exception, system: str | None = None
) -> tuple[Chat, str]:
    """The chat once it has ended, and what the user saw."""
    screen, shown = a_screen()
    chat = Chat(source, SamplingSettings(), TypedLines(lines), screen, system)
    await chat.run()
    return chat, shown.getvalue()


async def test_the_model_reads_what_was_said_before() -> None:
    source = FakeSource(["Hello.", "Fine."])
    _, shown = await chatted(source, "Hi", "How are you?", system="Be brief.")
    messages, _ = source.asked[1]
    assert [message["content"] for message in messages] == [
        "Be brief.",
        "Hi",
        "Hello.",
        "How are you?",
    ]
    assert "Hello.\n4 tokens, 2.0 tokens/s\nFine.\n" in shown


async def test_reset_and_system_change_what_the_model_reads() -> None:
    source = FakeSource(["a", "b", "c"])
    await chatted(source, "1", "/reset", "/system Be kind.", "2", "/system", "3")
    texts = [[message["content"] for message in messages] for messages, _ in source.asked]
    assert texts == [["1"], ["Be kind.", "2"], ["2", "b", "3"]]


async def test_set_holds_from_then_on_and_a_bad_value_changes_nothing() -> None:
    source = FakeSource(["a", "b"])
    _, shown = await chatted(source, "1", "/set temperature=0.5", "/set top_p=7", "/set", "2")
    assert [sampling.temperature for _, sampling in source.asked] == [0.0, 0.5]
    assert "top_p is '7'" in shown
    assert "temperature=0.5  top_p=1.0" in shown


async def test_a_question_without_an_answer_is_withdrawn_and_the_chat_goes_on() -> None:
    source = FakeSource([UnavailableError("No verifier."), "Hello."])
    chat, shown = await chatted(source, "lost", "Hi")
    assert [turn.text for turn in chat.conversation.turns] == ["Hi", "Hello."]
    assert "No verifier.\n" in shown


async def test_a_conversation_that_is_too_long_says_what_to_do() -> None:
    source = FakeSource([InvalidPromptError("The prompt has 9000 tokens; shorten it.")])
    _, shown = await chatted(source, "Hi")
    assert "9000 tokens; shorten it. Or say /reset to begin anew; /save keeps" in shown


async def test_an_interrupt_stops_the_answer_and_keeps_what_was_written() -> None:
    source = FakeSource([f"{ENDLESS}Once", "Twice."])

    async def interrupt() -> None:
        await source.has_begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = asyncio.create_task(interrupt())
    chat, shown = await chatted(source, "A story", "Again")
    await interrupting
    texts = [(turn.text, turn.is_partial) for turn in chat.conversation.turns]
    assert texts == [("A story", False), ("Once", True), ("Again", False), ("Twice.", False)]
    assert "Once\nStopped; what was written stays in the conversation.\n" in shown


async def test_an_interrupt_before_the_first_word_withdraws_the_question() -> None:
    source = FakeSource([ENDLESS])

    async def interrupt() -> None:
        await source.has_begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = asyncio.create_task(interrupt())
    chat, shown = await chatted(source, "A story")
    await interrupting
    assert chat.conversation.turns == []
    assert "the question is withdrawn" in shown


async def test_a_chat_that_is_cancelled_ends() -> None:
    source = FakeSource([f"{ENDLESS}Once"])
    chatting = asyncio.create_task(chatted(source, "A story"))
    await source.has_begun.wait()
    chatting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chatting


async def test_a_dropped_line_and_a_wrong_command_do_no_harm() -> None:
    source = FakeSource(["Hello."])
    chat, shown = await chatted(source, InputDroppedError(), "/nonsense", "", "Hi", "/quit", "more")
    assert len(chat.conversation.turns) == 2
    assert "There is no command /nonsense" in shown


async def test_a_chat_is_saved_for_the_user_alone_and_never_over_another_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "chat.json"
    lines = ("Hi", f"/save {file}", f"/save {file}", f"/save {tmp_path / 'chat.md'}")
    chat, shown = await chatted(FakeSource(["Hello."]), *lines)
    assert json.loads(file.read_text())[1]["content"] == "Hello."
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "chat.md").read_text() == chat.conversation.as_markdown()
    assert f"{file} cannot be written (File exists); name another file." in shown


async def test_what_the_model_says_cannot_drive_the_terminal() -> None:
    _, shown = await chatted(FakeSource(["\x1b[2Jgone"]), "Hi")
    assert "\x1b" not in shown
    assert "\\x1b[2Jgone" in shown


async def test_figures_of_the_chat_are_summed() -> None:
    _, shown = await chatted(FakeSource(["a", "b"]), "/stats", "1", "2", "/stats", "/help")
    assert "There is no complete answer yet." in shown
    assert "answers 2  tokens 8  tokens per s 2" in shown
    assert "Alt-Enter" in shown
