"""`outrider chat` at a pseudo terminal, with real models."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import RunningDaemon, running_daemon
from terminals import ALT_ENTER, CTRL_C, CTRL_D, ENTER, UP, Terminal, at_a_terminal

pytestmark = pytest.mark.slow

QUESTION = "Name three colours."
OUTRIDER = (sys.executable, "-m", "outrider")


@pytest.fixture(scope="module")
def daemon(verifier_address: str, int8_bundle_dir: Path) -> Iterator[RunningDaemon]:
    with running_daemon(verifier_address, int8_bundle_dir) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A model store of its own, for the history."""
    return tmp_path / "cache"


def by_daemon(daemon: RunningDaemon, cache: Path) -> list[str]:
    port = daemon.url.rpartition(":")[2]
    return ["chat", "--daemon", "--port", port, "--cache-dir", str(cache)]


def in_process(verifier: str, bundle: Path, cache: Path) -> list[str]:
    where = ["--verifier", verifier, "--bundle", str(bundle), "--cache-dir", str(cache)]
    return ["chat", "--no-daemon", *where]


def ask(terminal: Terminal, text: str) -> str:
    """Type a message; what is shown until the figures of its answer."""
    terminal.type(text + ENTER)
    return terminal.until(" tokens/s")


def test_a_chat_with_the_daemon_reads_what_was_said_and_is_saved(
    daemon: RunningDaemon, cache: Path, tmp_path: Path
) -> None:
    with at_a_terminal(*by_daemon(daemon, cache), "--max-tokens", "16") as terminal:
        assert "by the daemon at" in terminal.until("/help")
        ask(terminal, QUESTION)
        ask(terminal, f"And now{ALT_ENTER}three animals.")
        terminal.type(f"/save {tmp_path / 'chat.json'}{ENTER}")
        terminal.until("4 messages are in")
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    messages = json.loads((tmp_path / "chat.json").read_text())
    assert messages[2] == {"role": "user", "content": "And now\nthree animals."}
    client = daemon.client()
    (card,) = client.models.list().data
    answer = client.chat.completions.create(
        model=card.id, messages=messages[:3], max_tokens=16, seed=0
    )
    assert answer.choices[0].message.content == messages[3]["content"]


def test_an_edge_in_the_process_gives_the_same_answer(
    daemon: RunningDaemon, verifier_address: str, int8_bundle_dir: Path, cache: Path
) -> None:
    shown = []
    for command in (
        by_daemon(daemon, cache),
        in_process(verifier_address, int8_bundle_dir, cache),
    ):
        with at_a_terminal(*command, "--max-tokens", "24") as terminal:
            terminal.until("ends.")
            answer = ask(terminal, QUESTION).rpartition(QUESTION)[2]
            shown.append(answer.rpartition("\n24 tokens")[0].strip())
            terminal.type(f"/quit{ENTER}")
            assert terminal.end() == 0
    assert shown[0] == shown[1] != ""


@pytest.mark.parametrize("is_daemon", [True, False])
def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    daemon: RunningDaemon,
    verifier_address: str,
    int8_bundle_dir: Path,
    cache: Path,
    is_daemon: bool,
) -> None:
    command = (
        by_daemon(daemon, cache)
        if is_daemon
        else in_process(verifier_address, int8_bundle_dir, cache)
    )
    with at_a_terminal(*command, "--max-tokens", "4000") as terminal:
        terminal.until("ends.")
        terminal.type(f"Write a long story about a lighthouse keeper.{ENTER}")
        terminal.until("lighthouse keeper.")
        terminal.until(" the ")
        terminal.type(CTRL_C)
        terminal.until("Stopped; what was written stays")
        terminal.type(f"/set max_tokens=4{ENTER}")
        ask(terminal, "Go on.")
        terminal.type(CTRL_C)
        terminal.until("Ctrl-D ends the chat.")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_what_was_typed_is_there_the_next_time_for_this_user_alone(
    daemon: RunningDaemon, cache: Path
) -> None:
    with at_a_terminal(*by_daemon(daemon, cache), "--max-tokens", "4") as terminal:
        terminal.until("ends.")
        ask(terminal, QUESTION)
        terminal.type(CTRL_D)
        assert terminal.end() == 0
    history = cache / "chat" / "history.jsonl"
    assert history.stat().st_mode & 0o777 == 0o600
    with at_a_terminal(*by_daemon(daemon, cache), "--max-tokens", "4") as terminal:
        terminal.until("ends.")
        terminal.type(UP)
        terminal.until(QUESTION)
        ask(terminal, "")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_a_conversation_that_is_too_long_says_what_to_do(
    daemon: RunningDaemon, cache: Path
) -> None:
    with at_a_terminal(*by_daemon(daemon, cache), "--system", "word " * 9000) as terminal:
        terminal.until("ends.")
        terminal.type(f"Hi{ENTER}")
        terminal.until("shorten it. Or say /reset to begin anew")
        terminal.type(f"/system{ENTER}/set max_tokens=4{ENTER}")
        ask(terminal, "Hi")


def test_a_prompt_that_is_piped_in_is_answered_once(
    daemon: RunningDaemon, verifier_address: str, int8_bundle_dir: Path, cache: Path
) -> None:
    texts = {
        subprocess.run(
            [*OUTRIDER, *command, "--max-tokens", "12"],
            input=QUESTION,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in (
            by_daemon(daemon, cache),
            in_process(verifier_address, int8_bundle_dir, cache),
        )
    }
    (text,) = texts
    assert text.endswith("\n")
    assert "tokens/s" not in text
    assert not (cache / "chat").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--daemon", "--port", "1"), "No edge daemon answers at http://127.0.0.1:1"),
        (("--verifier", "127.0.0.1:1", "--proposers", "none"), "No verifier answers"),
        (("--bundle", "no-such-bundle"), "There is no bundle 'no-such-bundle'"),
    ],
)
def test_where_nobody_can_answer_one_sentence_says_so(
    int8_bundle_dir: Path, options: tuple[str, ...], says: str
) -> None:
    bundle = () if "--bundle" in options else ("--bundle", str(int8_bundle_dir))
    done = subprocess.run(
        [*OUTRIDER, "chat", *options, *bundle],
        input=QUESTION,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_prompt_is_refused() -> None:
    done = subprocess.run(
        [*OUTRIDER, "chat"], input=" \n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Standard input is empty" in done.stderr
