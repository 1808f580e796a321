"""What a client is told of unverified text: it always knows what is true, and how far."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from outrider_common.records import TokenOrigin, TokenRecord
from outrider_edge.told_choice import (
    Change,
    Confirmed,
    Corrected,
    MoreUnverified,
    MoreVerified,
    Place,
    ToldChoice,
    text_of,
)
from outrider_edge.unverified import Token, UnverifiedTail, UnverifiedToken


def verified(position: int, text: str) -> TokenRecord:
    return TokenRecord(position, hash(text), text, TokenOrigin.HEDGED, 0.0)


def unverified(position: int, text: str) -> UnverifiedToken:
    return UnverifiedToken(position, hash(text), text, 0.0)


@dataclass
class Client:
    """Follows what it is told."""

    text: str = ""
    num_sure: int = 0  # characters

    def follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case Confirmed(until, _):
                    assert self.num_sure <= until.character <= len(self.text)
                    self.num_sure = until.character
                case Corrected(since, records):
                    assert self.num_sure <= since.character <= len(self.text)
                    self.text = self.text[: since.character] + text_of(records)
                    self.num_sure = len(self.text)
                case MoreVerified(records):
                    assert self.num_sure == len(self.text)
                    self.text += text_of(records)
                    self.num_sure = len(self.text)
                case MoreUnverified(since, tokens):
                    assert since.character == len(self.text)
                    self.text += text_of(tokens)


WORDS = st.sampled_from(["a", "bc", ""])


@given(st.data())
def test_after_any_history_in_any_batches_the_client_knows_the_truth(data: st.DataObject) -> None:
    """Verified tokens in order, and between them a drafter that goes on behind them as it likes."""
    told, client = ToldChoice(), Client()
    records: list[TokenRecord] = []
    tail = UnverifiedTail()
    waiting: list[Token] = []
    for _ in range(data.draw(st.integers(0, 30))):
        word = data.draw(WORDS)
        if data.draw(st.booleans()):
            record = verified(len(records), word)
            records.append(record)
            tail.settle(record)
            waiting.append(record)
        else:
            token = unverified(len(records) + len(tail.tokens), word)
            tail.add(token)
            waiting.append(token)
        if data.draw(st.booleans()):
            client.follow(told.take(waiting))
            waiting.clear()
            assert client.text == text_of([*records, *tail.tokens])
            assert client.num_sure == len(text_of(records)) == len(told.verified_text)
            assert told.num_verified == len(records)
    client.follow(told.take(waiting, is_over=True))
    assert client.text == text_of(records)
    assert client.num_sure == len(client.text)


def test_what_turns_out_right_is_confirmed_and_not_said_again() -> None:
    told = ToldChoice()
    told.take([unverified(4, "an"), unverified(5, " out")])
    first, second, third = verified(4, "an"), verified(5, " out"), verified(6, "rider")
    assert told.take([first]) == [Confirmed(Place(5, 2), (first,))]
    assert told.take([second, third]) == [
        Confirmed(Place(6, 6), (second,)),
        MoreVerified((third,)),
    ]


def test_from_the_first_wrong_token_on_all_is_taken_back() -> None:
    told = ToldChoice()
    told.take([verified(3, "I"), unverified(4, "s"), unverified(5, "n"), unverified(6, "o")])
    right, other = verified(4, "s"), verified(5, "m")
    assert told.take([right, other]) == [
        Confirmed(Place(5, 2), (right,)),
        Corrected(Place(5, 2), (other,)),
    ]


def test_another_token_that_reads_alike_is_another_one() -> None:
    told = ToldChoice()
    told.take([UnverifiedToken(0, 7, "a", 0.0), UnverifiedToken(1, 8, "b", 0.0)])
    other = TokenRecord(0, 9, "a", TokenOrigin.HEDGED, 0.0)
    assert told.take([other]) == [Corrected(Place(0, 0), (other,))]


def test_a_client_that_comes_late_hears_of_nothing_that_was_taken_back() -> None:
    """One that reads an answer again, or slowly, gets the net of it."""
    said = [unverified(0, "wrong"), unverified(1, "er"), verified(0, "right"), unverified(1, "?")]
    changes = ToldChoice().take(said)
    records, rest = (said[2],), (said[3],)
    assert changes == [MoreVerified(records), MoreUnverified(Place(1, 5), rest)]  # type: ignore[arg-type]


def test_an_answer_that_ends_sooner_than_was_written_is_cut() -> None:
    told = ToldChoice()
    told.take([unverified(0, "Yes"), unverified(1, ", but")])
    end = verified(0, "Yes")
    assert told.take([end], is_over=True) == [
        Confirmed(Place(1, 3), (end,)),
        Corrected(Place(1, 3), ()),
    ]
