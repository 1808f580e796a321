"""What the verifier tells Prometheus.

A figure that vLLM has under the same meaning carries vLLM's name behind our prefix; see
docs/operations.md for what to watch. All is read when Prometheus asks, on its own thread: passes
pay nothing for it. Knows nothing of how figures come about.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from outrider_cloud.engine_meters import EngineMeters
from outrider_cloud.engine_stats import EngineCounters, EngineHoldings
from outrider_cloud.metric_families import MetricFamilies
from outrider_cloud.shadow import ShadowStats
from outrider_common.messages import ModelInfo

PREFIX: Final = "outrider_verifier_"


class MeasuredEngine(Protocol):
    """An engine that can be watched; every property may be read from any thread."""

    @property
    def info(self) -> ModelInfo:
        """The target and the limits."""
        ...

    @property
    def meters(self) -> EngineMeters:
        """Histograms, and who got what."""
        ...

    @property
    def counters(self) -> EngineCounters:
        """Sums."""
        ...

    @property
    def holdings(self) -> EngineHoldings:
        """What it holds."""
        ...

    @property
    def shadow_stats(self) -> ShadowStats:
        """What the shadow decode has found."""
        ...


class VerifierCollector(Collector):
    """The figures of one engine, as Prometheus' metrics."""

    def __init__(self, engine: MeasuredEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """All figures as they are now."""
        engine = self._engine
        make = MetricFamilies(PREFIX, MEANINGS, {"model_name": engine.info.model})
        yield from _sessions(engine.meters, engine.holdings, engine.info, make)
        yield from _tokens(engine.meters, engine.counters, make)
        yield from _drafts(engine.meters, engine.counters, make)
        yield from _times(engine.meters, make)
        yield from _room(engine.counters, engine.holdings, make)
        yield from _tenants(engine.meters, make)
        yield from _shadow(engine.shadow_stats, make)


def _sessions(
    meters: EngineMeters, holdings: EngineHoldings, info: ModelInfo, make: MetricFamilies
) -> Iterator[Metric]:
    ended = {str(how): count for how, count in tuple(meters.num_ended.items())}
    yield make.gauge("num_requests_running", holdings.num_running)
    yield make.gauge("num_requests_waiting", holdings.num_waiting)
    yield make.gauge("max_sessions", info.limits.max_sessions)
    yield make.counters("request_success", "finished_reason", ended)
    yield make.counter("requests_turned_away", meters.num_turned_away)
    yield make.gauges("build_info", "version", {info.software_version: 1})


def _tokens(
    meters: EngineMeters, counters: EngineCounters, make: MetricFamilies
) -> Iterator[Metric]:
    origins = {origin.value: count for origin, count in meters.num_tokens_of.items()}
    yield make.counter("prompt_tokens", meters.num_prompt_tokens)
    yield make.counter("generation_tokens", counters.num_tokens)
    yield make.counters("tokens_by_origin", "origin", origins)
    yield make.counter("prefix_cache_queries", counters.num_prefix_tokens)
    yield make.counter("prefix_cache_hits", counters.num_prefix_hits)


def _drafts(
    meters: EngineMeters, counters: EngineCounters, make: MetricFamilies
) -> Iterator[Metric]:
    num_refuted = counters.num_draft_tokens - counters.num_accepted_tokens
    places = {str(place): count for place, count in enumerate(meters.accepted_per_position())}
    wasted = {"refuted": num_refuted, "unchecked": meters.num_unchecked_nodes}
    yield make.counter("spec_decode_num_drafts", counters.num_drafts)
    yield make.counter("spec_decode_num_draft_tokens", counters.num_draft_tokens)
    yield make.counter("spec_decode_num_accepted_tokens", counters.num_accepted_tokens)
    yield make.counters("spec_decode_num_accepted_tokens_per_pos", "position", places)
    yield make.counter("received_nodes", meters.num_received_nodes)
    yield make.counters("wasted_nodes", "why", wasted)
    yield make.counter("own_guesses", counters.num_own_guesses)
    yield make.counter("right_own_guesses", counters.num_right_own_guesses)


def _times(meters: EngineMeters, make: MetricFamilies) -> Iterator[Metric]:
    yield make.histogram("pass_seconds", meters.pass_s)
    yield make.histogram("pass_rows", meters.pass_rows)
    yield make.histogram("pass_queue_seconds", meters.pass_queue_s)
    yield make.histogram("request_queue_time_seconds", meters.session_queue_s)
    yield make.histogram("time_to_first_token_seconds", meters.first_token_s)
    yield make.histogram("inter_token_latency_seconds", meters.token_gap_s)
    yield make.histogram("request_time_per_output_token_seconds", meters.time_per_token_s)
    yield make.histogram("e2e_request_latency_seconds", meters.session_s)


def _room(
    counters: EngineCounters, holdings: EngineHoldings, make: MetricFamilies
) -> Iterator[Metric]:
    pages = holdings.pages
    uses = {"held": pages.num_held, "cached": pages.num_cached, "free": pages.num_free}
    yield make.gauge("kv_cache_usage_perc", holdings.kv_cache_usage)
    yield make.gauges("kv_cache_pages", "use", uses)
    yield make.counter("num_preemptions", counters.num_preemptions)
    yield make.gauge("credit_nodes", holdings.offer.credit)
    yield make.gauge("price", holdings.offer.price)


def _tenants(meters: EngineMeters, make: MetricFamilies) -> Iterator[Metric]:
    tenants = meters.tenants()
    sessions = {name: counts.num_sessions for name, counts in tenants.items()}
    rows = {name: counts.num_rows for name, counts in tenants.items()}
    tokens = {name: counts.num_tokens for name, counts in tenants.items()}
    yield make.counters("tenant_requests", "tenant", sessions)
    yield make.counters("tenant_rows", "tenant", rows)
    yield make.counters("tenant_generation_tokens", "tenant", tokens)


def _shadow(stats: ShadowStats, make: MetricFamilies) -> Iterator[Metric]:
    yield make.counter("shadow_tokens", stats.num_tokens)
    yield make.counter("shadow_mismatches", stats.num_mismatches)
    yield make.gauge("shadow_largest_gap", stats.largest_gap)


MEANINGS: Final[Mapping[str, str]] = {
    "num_requests_running": "Sessions that run.",
    "num_requests_waiting": "Sessions that wait for room.",
    "max_sessions": "Sessions that may run at the same time.",
    "request_success": "Sessions that are over, by how they ended.",
    "requests_turned_away": "Sessions for which there was no room, not even to wait.",
    "build_info": "Always 1; the label tells the release.",
    "prompt_tokens": "Tokens of prompts of sessions that were let in.",
    "generation_tokens": "Tokens that were committed.",
    "tokens_by_origin": "Committed tokens, by who said them first.",
    "prefix_cache_queries": "Tokens before the frontier of sessions that were let in.",
    "prefix_cache_hits": "Those of them that were cached already.",
    "spec_decode_num_drafts": "Passes of a session that checked draft nodes.",
    "spec_decode_num_draft_tokens": "Draft nodes that were checked.",
    "spec_decode_num_accepted_tokens": "Draft nodes that were committed.",
    "spec_decode_num_accepted_tokens_per_pos": (
        "Draft nodes that were committed, by their place in their pass, from 0."
    ),
    "received_nodes": "Draft nodes that came, of sessions that are over.",
    "wasted_nodes": (
        "Draft nodes that were checked and refuted, or, of sessions that are over, never checked."
    ),
    "own_guesses": "Guesses of the verifier's own that were checked.",
    "right_own_guesses": "Those of them that were committed.",
    "pass_seconds": "Forward passes, from launch to verdict.",
    "pass_rows": "Tokens that a forward pass computed, of all sessions together.",
    "pass_queue_seconds": "From a session's commit to the launch of its next pass.",
    "request_queue_time_seconds": "How long sessions waited to be let in.",
    "time_to_first_token_seconds": "From the opening of a session to its first commit.",
    "inter_token_latency_seconds": "Between two tokens of a session; 0 within a pass.",
    "request_time_per_output_token_seconds": (
        "From a session's first commit to its last, for each token after the first."
    ),
    "e2e_request_latency_seconds": "From the opening of a session to its end.",
    "kv_cache_usage_perc": "The share of the KV cache that sessions hold; 1 is all.",
    "kv_cache_pages": "Pages of the KV cache, by what they are used for.",
    "num_preemptions": "Sessions that had to make room for older ones.",
    "credit_nodes": "Draft nodes that a session may have outstanding, as edges were told last.",
    "price": "The least chance at which a draft node is worth a row, as edges were told last.",
    "tenant_requests": "Sessions that were let in.",
    "tenant_rows": "Tokens that passes computed: prompts, drafts and answers.",
    "tenant_generation_tokens": "Tokens that were committed.",
    "shadow_tokens": "Committed tokens that were decoded again, to compare.",
    "shadow_mismatches": "Those of them that plain decoding would not have committed.",
    "shadow_largest_gap": "The largest distance, in logits, of such a token from the plain one.",
}
