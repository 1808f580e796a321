"""A daemon with the real model that is killed in mid-answer: who asks again gets all of it."""

import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import MortalDaemon

pytestmark = pytest.mark.slow

NUM_TOKENS = 64
PROMPT: Any = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]
GOES_ON: Any = {"extra_body": {"ignore_eos": True}}  # or chance may end it before it is killed
QUESTIONS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "sampled": {"temperature": 1, **GOES_ON},  # no seed: the daemon's own counts
    "two choices": {"temperature": 1, "n": 2, "stop": [" the sea"], **GOES_ON},
}


@pytest.fixture
def daemon(verifier_address: str, int8_bundle_dir: Path, tmp_path: Path) -> Iterator[MortalDaemon]:
    running = MortalDaemon(verifier_address, int8_bundle_dir, tmp_path)
    running.start()
    try:
        yield running
    finally:
        running.end()


def pieces(daemon: MortalDaemon, key: str, question: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """What a client reads of an answer, piece by piece, by choice."""
    with daemon.client() as client:
        stream = client.chat.completions.create(
            model=daemon.model,
            messages=PROMPT,
            max_tokens=NUM_TOKENS,
            stream=True,
            extra_headers={"Idempotency-Key": key},
            **question,
        )
        for piece in stream:
            for choice in piece.choices:
                if choice.delta.content:
                    yield choice.index, choice.delta.content
        final: Any = piece
        yield -1, str(final.outrider["seed"])


def texts(said: Iterator[tuple[int, str]]) -> dict[int, str]:
    whole: dict[int, str] = {}
    for index, text in said:
        whole[index] = whole.get(index, "") + text
    return whole


def num_tokens_kept(state: Path) -> int:
    """In all files, whole or not."""
    files = (state / "journal").glob("*.answer")
    return sum(file.read_bytes().count(b'{"kind":"token"') for file in files)


@pytest.mark.parametrize("name", QUESTIONS)
def test_who_asks_again_after_kill_9_gets_the_whole_answer(
    daemon: MortalDaemon, tmp_path: Path, name: str
) -> None:
    question = QUESTIONS[name]
    reading = pieces(daemon, name, question)
    cut_off: list[tuple[int, str]] = [next(reading) for _ in range(3)]
    while not num_tokens_kept(tmp_path):
        time.sleep(0.01)
    daemon.end()
    with pytest.raises(Exception, match=r"peer closed|[Cc]onnection|disconnected|incomplete|reset"):
        cut_off += reading
    (file,) = (tmp_path / "journal").glob("*.answer")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b'"kind":"ended"' not in file.read_bytes()
    daemon.start()
    whole = texts(pieces(daemon, name, question))
    seed = int(whole[-1])
    unbroken = texts(pieces(daemon, "another", question | {"seed": seed}))
    assert whole == unbroken
    assert all(whole[i].startswith(text) for i, text in texts(iter(cut_off)).items())
    assert texts(pieces(daemon, name, question)) == whole


def test_the_official_client_tries_again_by_itself(daemon: MortalDaemon, tmp_path: Path) -> None:
    question: dict[str, Any] = {
        "model": daemon.model,
        "messages": PROMPT,
        "max_tokens": 120,
        "temperature": 1,
        **GOES_ON,
    }
    key = {"Idempotency-Key": "a-key"}

    def restart_in_mid_answer() -> None:
        while num_tokens_kept(tmp_path) < 8:
            time.sleep(0.01)
        daemon.end()
        daemon.start()

    restarting = threading.Thread(target=restart_in_mid_answer)
    restarting.start()
    with daemon.client(max_retries=20) as client:
        answer: Any = client.chat.completions.create(**question, extra_headers=key)
        restarting.join()
        again: Any = client.chat.completions.create(**question, extra_headers=key)
        seed = answer.outrider["seed"]
        unbroken = client.chat.completions.create(**question, seed=seed)
    assert answer == again
    assert answer.choices[0].message.content == unbroken.choices[0].message.content
    (figures,) = answer.outrider["choices"]
    assert figures["num_resumes"] == 1
    assert figures["num_tokens"] == 120
