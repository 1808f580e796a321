"""What the two sides say to each other, as immutable values.

Each is valid by construction as far as that needs no knowledge of a model or a session. Knows
nothing of bytes: `wire` turns these into protobuf messages and back.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from outrider_common.acceptance import Acceptance, AcceptanceMode
from outrider_common.errors import InvalidPromptError, OutriderError, UnsupportedError
from outrider_common.logprobs import TokenLogprobs
from outrider_common.sampling import SamplingParams
from outrider_common.tree import DraftNode

PROTOCOL_VERSION: Final = 2

MAX_RUNNER_UPS: Final = 8
"""So many runner-ups of each committed token an edge may ask for."""


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """A stop token or an end-of-text id was committed, or the edge found a stop string."""
    LENGTH = "length"
    """`max_tokens` was reached, or the model has no more positions."""
    CANCELLED = "cancelled"
    """The edge cancelled."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a verifier allows.

    Attributes:
        max_message_bytes: the largest message that it receives.
        max_outstanding_nodes: draft nodes that one session may have outstanding.
        committed_id_window: how many ids of committed nodes it remembers.
        max_sessions: sessions at the same time.
    """

    max_message_bytes: int
    max_outstanding_nodes: int
    committed_id_window: int
    max_sessions: int


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a verifier has to do just now.

    Attributes:
        num_running: sessions that run.
        num_waiting: sessions that wait for room.
        pass_us: how long its next pass takes, about, in microseconds; 0: it does not say.
    """

    num_running: int = 0
    num_waiting: int = 0
    pass_us: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A target model as clients see it.

    Attributes:
        model: its id.
        vocab_size: token ids are below this.
        max_positions: the most tokens, prompt and answer together.
        tokenizer_fingerprint: what each token id means, as a hash.
        eos_token_ids: ids that end a generation.
        acceptance_modes: the modes that are offered.
        limits: what the verifier allows.
        protocol_version: what the verifier speaks.
        software_version: the release of the verifier.
        occupancy: what it had to do when it said this.
    """

    model: str
    vocab_size: int
    max_positions: int
    tokenizer_fingerprint: str
    eos_token_ids: tuple[int, ...]
    acceptance_modes: tuple[AcceptanceMode, ...]
    limits: Limits
    protocol_version: int = PROTOCOL_VERSION
    software_version: str = ""
    occupancy: Occupancy = Occupancy()

    def check_prompt_length(self, num_tokens: int) -> None:
        """Refuse a prompt, or a prefix, that the model cannot continue.

        Raises:
            InvalidPromptError: it is empty, or leaves no position for one token more.
        """
        if num_tokens == 0:
            raise InvalidPromptError("The prompt is empty; it needs at least one token.")
        if num_tokens >= self.max_positions:
            raise InvalidPromptError(
                f"The prompt has {num_tokens} tokens, but '{self.model}' takes at most "
                f"{self.max_positions - 1}, so that one more fits; shorten it."
            )

    def check_acceptance_mode(self, mode: AcceptanceMode) -> None:
        """Refuse an acceptance mode that is not offered.

        Raises:
            UnsupportedError: naming those that are.
        """
        if mode not in self.acceptance_modes:
            offered = ", ".join(mode.value for mode in self.acceptance_modes)
            raise UnsupportedError(
                f"The acceptance mode '{mode.value}' is not offered for '{self.model}'; "
                f"its verifier offers: {offered}."
            )


@dataclass(frozen=True, slots=True)
class OpenSession:
    """The edge opens a session, or resumes a generation in a new one.

    Attributes:
        prefix: the prompt, then what was committed before, where the generation is resumed.
        num_prompt_tokens: how many tokens of the prefix are the prompt.
        max_tokens: the most tokens to generate after the prompt.
        sampling: how the target chooses its tokens.
        tokenizer_fingerprint: what the edge takes the token ids to mean.
        model: the target; empty for the verifier's only one.
        acceptance: how tokens are accepted.
        stop_token_ids: ids that end the generation, beside the model's own end-of-text ids.
        ignore_eos: do not stop at the model's own end-of-text ids.
        num_runner_ups: how many runner-ups of each committed token are wanted.
        own_guesses: the verifier may check guesses of its own beside the edge's drafts.
        waits_for_drafts: no hedging: passes wait for draft nodes as long as some may come.
        pad_ms: both sides send one message of a fixed size every so many milliseconds; 0 does not.
        protocol_version: what the edge speaks.
        num_top_logprobs: the log-probability of each committed token is wanted, and of so many of
            the likeliest at its position; None: not wanted.
    """

    prefix: tuple[int, ...]
    num_prompt_tokens: int
    max_tokens: int
    sampling: SamplingParams
    tokenizer_fingerprint: str
    model: str = ""
    acceptance: Acceptance = field(default_factory=Acceptance)
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    num_runner_ups: int = 0
    own_guesses: bool = False
    waits_for_drafts: bool = False
    pad_ms: int = 0
    protocol_version: int = PROTOCOL_VERSION
    num_top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Extend:
    """New draft nodes, parents before their children, with ids that follow one another."""

    nodes: tuple[DraftNode, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The edge wants no more tokens."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The verifier has opened the session.

    Attributes:
        session_id: a name for logs.
        limits: what the edge must keep to.
        acceptance_mode: how tokens are accepted; with a lossy mode the text is not the target's.
        answers_pings: whether an edge that hears nothing may ask if the verifier is there.
        pad_ms: as it was asked for; 0 if the verifier does not pad.
    """

    session_id: str
    limits: Limits
    acceptance_mode: AcceptanceMode = AcceptanceMode.EXACT
    answers_pings: bool = False
    pad_ms: int = 0


@dataclass(frozen=True, slots=True)
class Commit:
    """Tokens that are final: of accepted nodes, of the verifier's own guesses, and of its choice.

    Attributes:
        start: the position of the first token.
        tokens: the token ids.
        num_accepted: how many of them, from the first, were carried by draft nodes.
        num_guessed: how many after those were carried by guesses of the verifier's own. After these
            there is at most one token, the one that it has chosen itself.
        is_correction: there were draft nodes for the position of that last token, and none carried
            it; otherwise it is a hedge.
        finish_reason: None while the generation goes on.
        queue_us: from when the session could have run to when its pass began, in microseconds;
            behind the wire only about (`wire.NEWS_SHARE`), as are `pass_us` and `price`.
        pass_us: how long the pass took, in microseconds.
        num_rows: how many tokens of this session the pass computed.
        credit: how many draft nodes the edge may have outstanding from now on; None if the
            verifier does not say.
        price: what a draft node is worth at least: its chance of being committed, in [0, 1].
        runner_ups: for each token the likeliest others at its position by the target's logits, the
            best first, equally many for each; empty where none were asked for.
        logprobs: for each token what the target thinks of it; empty where nobody asked.
    """

    start: int
    tokens: tuple[int, ...]
    num_accepted: int
    is_correction: bool = False
    finish_reason: FinishReason | None = None
    queue_us: int = 0
    pass_us: int = 0
    num_rows: int = 0
    credit: int | None = None
    price: float = 0.0
    runner_ups: tuple[tuple[int, ...], ...] = ()
    num_guessed: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class GoAway:
    """This verifier will soon be gone: open the session elsewhere within `deadline_ms`."""

    reason: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The verifier is there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The session ends with an error.

    Attributes:
        error: the verifier's own.
    """

    error: OutriderError


ServerEvent = Opened | Commit | GoAway | Pong | Failure
