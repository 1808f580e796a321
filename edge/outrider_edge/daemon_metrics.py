"""What the daemon counts, for Prometheus.

Figures that vLLM has under the same meaning carry vLLM's names, so that its dashboards read them;
the others begin with `outrider_edge_`. Knows nothing of how requests are served.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from outrider_common.records import TokenOrigin, TokenRecord
from outrider_edge.estimators import Estimates
from outrider_edge.generation import GenerationResult
from outrider_edge.unverified import UnverifiedTail

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5)

EstimatesNow = Callable[[], Estimates | None]
"""The estimators' figures; None while there is no verifier."""


class DaemonMetrics:
    """All metrics of one daemon, in a registry of their own.

    Args:
        estimates_now: asked whenever the figures are read.
    """

    def __init__(self, estimates_now: EstimatesNow) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EstimatesCollector(estimates_now))
        self._count_requests()
        self._count_tokens()
        self._count_drafts()
        self._measure_times()

    def _count_requests(self) -> None:
        self.requests = Counter(
            "outrider_edge_http_requests",
            "Requests, by how they ended: the HTTP status, client_gone or broken_off.",
            ("route", "outcome"),
            registry=self._registry,
        )
        self.running = Gauge(
            "vllm:num_requests_running",
            "Answers that are being generated.",
            registry=self._registry,
        )
        self.waiting = Gauge(
            "vllm:num_requests_waiting",
            "Requests that wait for a verifier.",
            registry=self._registry,
        )
        self._successes = Counter(
            "vllm:request_success",
            "Answers that were completed.",
            ("model_name", "finished_reason"),
            registry=self._registry,
        )

    def _count_tokens(self) -> None:
        self._prompt_tokens = self._by_model("vllm:prompt_tokens", "Tokens of prompts.")
        self._tokens = self._by_model("vllm:generation_tokens", "Tokens of answers.")
        self._origins = Counter(
            "outrider_edge_tokens",
            "Tokens of answers, by who said them first.",
            ("model_name", "origin"),
            registry=self._registry,
        )
        self._unverified = Counter(
            "outrider_edge_unverified_tokens",
            "Tokens that the drafter wrote alone, by what became of them: confirmed, refuted or, "
            "where no verifier came in time, left.",
            ("model_name", "fate"),
            registry=self._registry,
        )
        self._passes = self._by_model(
            "outrider_edge_passes", "Verification passes in which an answer took part."
        )
        self._rests = self._by_model(
            "outrider_edge_rests", "How often drafting stopped because it did not pay."
        )
        self._resumes = self._by_model(
            "outrider_edge_resumes", "How often an answer went on in a new session after a break."
        )
        self._bytes = Counter(
            "outrider_edge_link_bytes",
            "Bytes between edge and verifier, as encoded messages.",
            ("model_name", "direction"),
            registry=self._registry,
        )

    def _count_drafts(self) -> None:
        self._drafts = self._by_model(
            "vllm:spec_decode_num_drafts", "Passes that had drafts to check."
        )
        self._draft_tokens = self._by_model(
            "vllm:spec_decode_num_draft_tokens", "Draft tokens that were sent."
        )
        self._accepted = self._by_model(
            "vllm:spec_decode_num_accepted_tokens", "Draft tokens that became text."
        )
        self._accepted_per_pos = Counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos",
            "Accepted draft tokens, by their place in their pass, from 0.",
            ("model_name", "position"),
            registry=self._registry,
        )

    def _measure_times(self) -> None:
        self._first_token = self._histogram(
            "vllm:time_to_first_token_seconds", "From the request to its first token.", _SECONDS
        )
        self._gaps = self._histogram(
            "vllm:inter_token_latency_seconds",
            "Between two tokens of an answer; 0 within a pass.",
            _GAP_SECONDS,
        )
        self._whole = self._histogram(
            "vllm:e2e_request_latency_seconds", "From the request to its last token.", _SECONDS
        )

    def _by_model(self, name: str, meaning: str) -> Counter:
        return Counter(name, meaning, ("model_name",), registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, meaning, ("model_name",), buckets=buckets, registry=self._registry)

    def prompted(self, model: str, num_prompt_tokens: int) -> None:
        """A request was understood, and its answers begin."""
        self._prompt_tokens.labels(model).inc(num_prompt_tokens)

    def first_token(self, model: str, seconds: float) -> None:
        """The first token of an answer is there, so long after the request."""
        self._first_token.labels(model).observe(seconds)

    def answered(self, model: str, result: GenerationResult, seconds: float) -> None:
        """An answer is complete, so long after the request."""
        stats = result.stats
        self._successes.labels(model, result.finish_reason.value).inc()
        self._tokens.labels(model).inc(stats.num_tokens)
        self._passes.labels(model).inc(stats.num_passes)
        self._rests.labels(model).inc(stats.num_rests)
        self._resumes.labels(model).inc(stats.num_resumes)
        self._bytes.labels(model, "up").inc(stats.bytes_up)
        self._bytes.labels(model, "down").inc(stats.bytes_down)
        self._drafts.labels(model).inc(stats.num_drafts)
        self._draft_tokens.labels(model).inc(stats.num_draft_tokens)
        self._accepted.labels(model).inc(stats.num_accepted_tokens)
        for position, count in enumerate(stats.num_accepted_tokens_per_pos):
            self._accepted_per_pos.labels(model, str(position)).inc(count)
        for origin in TokenOrigin:
            count = sum(record.origin is origin for record in result.records)
            self._origins.labels(model, origin.value).inc(count)
        self._whole.labels(model).observe(seconds)
        for gap in _gaps(result.records):
            self._gaps.labels(model).observe(gap)

    def written_alone(self, model: str, tail: UnverifiedTail) -> None:
        """An answer has ended; what became of the tokens that the drafter wrote alone."""
        self._unverified.labels(model, "confirmed").inc(tail.num_confirmed)
        self._unverified.labels(model, "refuted").inc(tail.num_refuted)
        self._unverified.labels(model, "left").inc(len(tail.tokens))

    def page(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


def _gaps(records: Sequence[TokenRecord]) -> Iterator[float]:
    for earlier, later in pairwise(records):
        yield later.committed_at_s - earlier.committed_at_s


class _EstimatesCollector(Collector):
    """The estimators' figures as gauges; those that are not known yet are left out."""

    def __init__(self, estimates_now: EstimatesNow) -> None:
        self._estimates_now = estimates_now

    def collect(self) -> Iterable[Metric]:
        """One gauge for each figure that is known."""
        estimates = self._estimates_now()
        if estimates is None:
            return
        figures = asdict(estimates) | {"hedging_rate_per_s": estimates.hedging_rate_per_s}
        for name, value in figures.items():
            if value is not None:
                yield GaugeMetricFamily(
                    f"outrider_edge_estimated_{_in_words(name)}", _MEANINGS[name], value=value
                )


def _in_words(name: str) -> str:
    """Prometheus writes units out."""
    if name.endswith("_per_s"):
        return name.removesuffix("_s") + "_second"
    return name.removesuffix("_s") + "_seconds" if name.endswith("_s") else name


_MEANINGS: Final = {
    "round_trip_s": "From drafting a token to when its verdict could be here.",
    "interval_s": "Between two commits of an answer.",
    "interval_spread_s": "The standard deviation of that.",
    "pass_s": "A verification pass.",
    "plain_pass_s": "One that computes one token of the answer.",
    "queue_s": "How long an answer waits for its pass.",
    "draft_s": "Drafting one token.",
    "leaf_share": "What a further leaf adds to that, as a share.",
    "acceptance": "The share of the judged first guesses that became text.",
    "hope": "The chance of a good next guess.",
    "hedging_rate_per_s": "Tokens that the verifier writes by itself, a second.",
}
