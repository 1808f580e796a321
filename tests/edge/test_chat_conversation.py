"""A conversation as the model reads it and as people keep it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.chat.conversation import Conversation

TEXTS = st.text(min_size=1)


def a_conversation() -> Conversation:
    conversation = Conversation("Be brief.")
    conversation.ask("Hi")
    conversation.answer("Hello.")
    conversation.ask("More")
    conversation.answer("I was", is_partial=True)
    return conversation


def test_the_model_reads_all_messages_the_system_message_first() -> None:
    assert [tuple(message.values()) for message in a_conversation().messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "More"),
        ("assistant", "I was"),
    ]


def test_reset_keeps_the_system_message() -> None:
    conversation = a_conversation()
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]


def test_a_stopped_answer_is_marked_for_people() -> None:
    assert "**assistant** (stopped)\n\nI was" in a_conversation().as_markdown()
    assert "**assistant**\n\nHello." in a_conversation().as_markdown()


def test_programs_read_what_the_api_takes_and_the_mark() -> None:
    messages = json.loads(a_conversation().as_json())
    assert messages[-1] == {"role": "assistant", "content": "I was", "is_partial": True}
    assert messages[:-1] == a_conversation().messages[:-1]


@given(st.lists(st.tuples(TEXTS, st.text())))
def test_questions_and_answers_always_take_turns(exchanges: list[tuple[str, str]]) -> None:
    conversation = Conversation()
    for question, answer in exchanges:
        conversation.ask(question)
        conversation.answer(answer)
    roles = [message["role"] for message in conversation.messages]
    assert roles == ["user", "assistant"] * sum(bool(answer) for _, answer in exchanges)
