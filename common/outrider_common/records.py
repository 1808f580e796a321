"""What is known of a generation afterwards: where each token came from, and the sums.

Plain values for reports, traces and metrics. Knows nothing of how a session runs, of terminals or
of metrics servers. Counters carry vLLM's names where vLLM has the same counter.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum

from outrider_common.logprobs import TokenLogprobs


class TokenOrigin(StrEnum):
    """Who said a committed token first: the edge's draft, the verifier's guess or its target."""

    DRAFTED = "drafted"
    """A draft of the edge carried it, and the verifier agreed."""

    GUESSED = "guessed"
    """No draft carried it in time; the verifier had guessed it itself, and was right."""

    CORRECTED = "corrected"
    """Drafts were there for its position, but none carried it."""

    HEDGED = "hedged"
    """The verifier decoded it itself, with no draft there for its position."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One committed token and its history. Times are seconds since the request began.

    Attributes:
        position: its position in the sequence; the prompt begins at 0.
        token: its id.
        text: the text that became complete with it; empty inside a multi-token character.
        origin: who said it first.
        committed_at_s: when the edge learned that it is final.
        drafted_at_s: when the edge drafted it; None where no draft carried it.
        proposer: the name of the proposer that drafted it; None where no draft carried it.
        pass_index: the verification pass that committed it, counted from 0 in this generation.
        num_rows: how many rows of this generation that pass computed.
        logprobs: what the target thinks of it; None where nobody asked.
    """

    position: int
    token: int
    text: str
    origin: TokenOrigin
    committed_at_s: float
    drafted_at_s: float | None = None
    proposer: str | None = None
    pass_index: int = 0
    num_rows: int = 1
    logprobs: TokenLogprobs | None = None

    def as_json(self) -> dict[str, object]:
        """The record as a dictionary that `json.dumps` takes."""
        said = asdict(self) | {"origin": self.origin.value}
        if self.logprobs is None:
            del said["logprobs"]
        return said


@dataclass(frozen=True, slots=True)
class GenerationStats:
    """The sums over one generation.

    Attributes:
        num_accepted_tokens: committed tokens that a draft carried.
        num_corrections: committed tokens for whose position drafts were there, but another token.
        num_hedged: committed tokens that the verifier decoded with no draft there.
        num_guessed: committed tokens that the verifier had guessed itself.
        num_drafts: passes that had at least one guess to check, the edge's or the verifier's.
        num_draft_tokens: draft nodes that the edge sent, checked or not.
        num_accepted_tokens_per_pos: how many of the accepted tokens were the first of their pass,
            the second, and so on.
        num_passes: verification passes in which this generation took part.
        bytes_up: bytes from the edge to the verifier, as encoded messages.
        bytes_down: bytes from the verifier to the edge, as encoded messages.
        time_to_first_token_s: from the request to the first committed token; None before it.
        duration_s: from the request to the last committed token.
        num_rests: how often the edge stopped drafting because it did not pay.
        num_probes: how often it tried again, to see whether it pays by now.
        num_resumes: how often the answer went on in a new session, here or at another verifier.
    """

    num_accepted_tokens: int = 0
    num_corrections: int = 0
    num_hedged: int = 0
    num_guessed: int = 0
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens_per_pos: tuple[int, ...] = ()
    num_passes: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    time_to_first_token_s: float | None = None
    duration_s: float = 0.0
    num_rests: int = 0
    num_probes: int = 0
    num_resumes: int = 0

    @property
    def num_tokens(self) -> int:
        """All committed tokens."""
        return self.num_accepted_tokens + self.num_guessed + self.num_corrections + self.num_hedged

    @property
    def acceptance_rate(self) -> float:
        """How often the target agreed with a draft where there was one: the `a` of the formulas.

        Drafts that hang from a wrong one are never judged and do not count; they are in
        `wasted_fraction`. 0 where nothing was drafted.
        """
        return _ratio(self.num_accepted_tokens, self.num_accepted_tokens + self.num_corrections)

    @property
    def wasted_fraction(self) -> float:
        """The share of the draft tokens sent that did not become text; 0 where none was sent."""
        unused = self.num_draft_tokens - self.num_accepted_tokens
        return _ratio(unused, self.num_draft_tokens)

    @property
    def tokens_per_pass(self) -> float:
        """Committed tokens for each verification pass; plain decoding has 1."""
        return _ratio(self.num_tokens, self.num_passes)

    @property
    def tokens_per_s(self) -> float:
        """Committed tokens for each second of the whole request, its prompt included."""
        return _ratio(self.num_tokens, self.duration_s)

    @property
    def bytes_up_per_token(self) -> float:
        """Uplink bytes for each committed token."""
        return _ratio(self.bytes_up, self.num_tokens)

    @property
    def bytes_down_per_token(self) -> float:
        """Downlink bytes for each committed token."""
        return _ratio(self.bytes_down, self.num_tokens)

    def as_json(self) -> dict[str, object]:
        """Counters and derived figures as a dictionary that `json.dumps` takes."""
        return asdict(self) | {
            "num_accepted_tokens_per_pos": list(self.num_accepted_tokens_per_pos),
            "num_tokens": self.num_tokens,
            "acceptance_rate": self.acceptance_rate,
            "wasted_fraction": self.wasted_fraction,
            "tokens_per_pass": self.tokens_per_pass,
            "tokens_per_s": self.tokens_per_s,
            "bytes_up_per_token": self.bytes_up_per_token,
            "bytes_down_per_token": self.bytes_down_per_token,
        }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
