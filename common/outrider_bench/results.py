"""What a run of the bench measured: values only, to and from JSON.

Pure. Knows nothing of how it is measured, summed up or drawn. docs/benchmarking.md says the same in
a table; a change of meaning is a new `VERSION`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from outrider_common.errors import ConfigError
from outrider_common.validation import first_problem

VERSION: Final = 1
"""Of the fields below."""

_OLDER_OR_NEWER: Final = (
    "{name} has version {version} of the bench's results, this release reads version {ours}; "
    "measure again, or use the release that wrote it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Under which policies are compared: everything that a cell is, but the policy.

    Attributes:
        pair: target and drafter: the bundle's name, or the text of a synthetic target.
        rtt_ms: round-trip time of the emulated link.
        bandwidth_mbps: of either way, in 10^6 bits a second; None without a limit.
        sessions: generations that run at the same time.
        temperature: 0 is greedy.
    """

    pair: str
    rtt_ms: float
    bandwidth_mbps: float | None
    sessions: int
    temperature: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Of a time over all answers of a cell, in milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell(Circumstances):
    """What one policy did in one place of the grid.

    A figure of a round is the median over its answers; figures here are the median over rounds,
    `*_min` and `*_max` the smallest and the largest of a round. Counters are sums over all answers,
    divided. None: not measured, or not defined for this policy.

    Attributes:
        policy: its name.
        rounds: how often it was measured; warm-up is not counted.
        prompts: how many of a round.
        tokens: of all answers together.
        tokens_per_s: of one session, from its first token to its last: tokens after the first over
            the time since the first.
        end_to_end_tokens_per_s: all tokens over all the time since the request, prompt included.
        total_tokens_per_s: of all sessions together, end to end.
        ttft_ms: from the request to the first token.
        tpot_ms: time per output token after the first, of each answer.
        speedup_vs_cloud: this policy's `tokens_per_s` over that of `cloud` for the same prompt in
            the same round: the median of these ratios, then over rounds. None without enough
            tokens.
        end_to_end_speedup_vs_cloud: the same of `end_to_end_tokens_per_s`.
        speedup_by_task: the median ratio over all rounds, for each task of the prompts.
        acceptance_rate: how often the target agreed with a draft where there was one.
        tokens_per_pass: committed tokens for each verification pass of a session.
        rows_per_token: rows of passes for each committed token.
        draft_nodes_per_token: draft nodes sent for each committed token.
        wasted_fraction: share of the nodes sent that did not become text.
        bytes_up_per_token: messages and their framing, the request's own included.
        bytes_down_per_token: the same from the verifier.
        exact: no token differs from the text of `cloud`; None where that is not promised.
        mismatches: tokens that differ from the text of `cloud`.
        block_nodes: nodes of a block, for policies that have blocks.
        note: what a reader of the figures has to know.
    """

    policy: str
    rounds: int
    prompts: int
    tokens: int
    tokens_per_s: float | None
    tokens_per_s_min: float | None
    tokens_per_s_max: float | None
    end_to_end_tokens_per_s: float
    total_tokens_per_s: float
    total_tokens_per_s_min: float
    total_tokens_per_s_max: float
    ttft_ms: Quantiles
    tpot_ms: Quantiles | None
    speedup_vs_cloud: float | None
    speedup_vs_cloud_min: float | None
    speedup_vs_cloud_max: float | None
    end_to_end_speedup_vs_cloud: float | None
    speedup_by_task: Mapping[str, float] = field(default_factory=dict)
    acceptance_rate: float | None
    tokens_per_pass: float | None
    rows_per_token: float | None
    draft_nodes_per_token: float | None
    wasted_fraction: float | None
    bytes_up_per_token: float | None
    bytes_down_per_token: float | None
    exact: bool | None
    mismatches: int
    block_nodes: int | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What an answer cost, where the policy runs on our verifier. Names as in the records."""

    num_passes: int
    num_rows: int
    num_draft_tokens: int
    num_accepted_tokens: int
    num_corrections: int
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, as measured.

    Attributes:
        policy: whose it is.
        prompt: the number of its prompt in the request.
        task: what kind of prompt that is.
        tokens: how many it has.
        ttft_ms: from the request to its first token.
        duration_ms: from the request to its last token.
        batch_ms: from the request of the first of the answers that ran with it to the end of the
            last.
        mismatches: tokens that differ from the text of `cloud`.
        counters: None where the policy does not run on our verifier.
    """

    policy: str
    prompt: int
    task: str
    tokens: int
    ttft_ms: float
    duration_ms: float
    batch_ms: float
    mismatches: int
    counters: Counters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Once through all prompts and policies, in one place of the grid.

    Attributes:
        circumstances: where.
        index: which of the rounds there, from 0.
        load: the machine's load average over the last minute, at its end.
        block_nodes: of each policy that has blocks, the length in force.
        answers: of all policies.
    """

    circumstances: Circumstances
    index: int
    load: float
    block_nodes: Mapping[str, int]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.

    Attributes:
        target: the model, or the text of a synthetic target.
        pairs: the drafter bundles; the target's text where it is synthetic.
        policies: by name.
        rtt_ms: round-trip times.
        bandwidth_mbps: of either way; None without a limit.
        sessions: generations at the same time.
        temperatures: 0 is greedy.
        prompt_file: its name and the first digits of its SHA-256; None where prompts are synthetic.
        num_prompts: of a round; where there are more sessions, one for each of them.
        tokens: of an answer at most.
        rounds: in each place of the grid.
        warm_up: so many prompts, at least, are answered by every policy before anything counts.
        seed: of the sampling; prompt number i has seed + i.
        proposers: what drafts.
        draft_ms: what each level of a draft takes where the target is synthetic; else None.
    """

    target: str
    pairs: tuple[str, ...]
    policies: tuple[str, ...]
    rtt_ms: tuple[float, ...]
    bandwidth_mbps: tuple[float | None, ...]
    sessions: tuple[int, ...]
    temperatures: tuple[float, ...]
    prompt_file: str | None
    num_prompts: int
    tokens: int
    rounds: int
    warm_up: int
    seed: int
    proposers: tuple[str, ...]
    draft_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where it was measured.

    Attributes:
        cpu: the model of the processor.
        num_cores: that the bench may use.
        system: kernel and architecture.
        versions: of Python, Outrider and what it computes with.
        pinned: for each process the core that it was pinned to; empty where the system cannot.
        load_before: the load average over the last minute, before the run.
        software: for each pair what policies of other software ran as its drafter, in words.
        verifier_settings: the environment variables that change the verifier's settings.
    """

    cpu: str
    num_cores: int
    system: str
    versions: Mapping[str, str]
    pinned: Mapping[str, int]
    load_before: float
    software: Mapping[str, str] = field(default_factory=dict)
    verifier_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResults:
    """A run of the bench, finished or not.

    Attributes:
        version: of these fields.
        measured_at: when it began, ISO 8601 in UTC.
        finished: whether all rounds of the request are there.
        machine: where.
        request: what was asked for.
        cells: the figures; each is summed up from `rounds`.
        rounds: every answer.
    """

    version: int
    measured_at: str
    finished: bool
    machine: Machine
    request: Request
    cells: tuple[Cell, ...] = ()
    rounds: tuple[Round, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As a dictionary that `json.dumps` takes."""
        return asdict(self)


_RESULTS: Final = TypeAdapter(BenchResults)


def results_from_json(document: object, name: str) -> BenchResults:
    """Read what `as_json` gave, once through JSON.

    Args:
        document: what `json.loads` gave.
        name: of where it comes from, for the sentence when it is none.

    Raises:
        ConfigError: these are no results, or those of another version.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version != VERSION:
        raise ConfigError(_OLDER_OR_NEWER.format(name=name, version=version, ours=VERSION))
    try:
        return _RESULTS.validate_python(document)
    except ValidationError as error:
        raise ConfigError(
            f"{name} does not hold results of 'outrider bench run' ({first_problem(error)}); "
            "give the file that it wrote."
        ) from error
