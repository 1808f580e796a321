"""What Prometheus reads from a verifier, after passes of a real engine over a fake target."""

import json
import random
import urllib.request

import pytest
from fake_target import FakeTarget, greedy_text
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.engine_meters import MAX_TENANTS, NO_TENANT, OTHER_TENANTS
from outrider_cloud.metrics_endpoint import offered_metrics
from outrider_cloud.scheduler import PackingLimits, PackingScheduler, Scheduler, TurnScheduler
from outrider_cloud.session import VerifierSession
from outrider_cloud.verifier_metrics import MEANINGS, PREFIX, VerifierCollector
from outrider_common.errors import CapacityError, PortInUseError
from outrider_common.messages import Commit, Limits, OpenSession
from outrider_common.records import TokenOrigin
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode

NUM_TOKENS = 12


def make_engine(
    max_sessions: int = 4, max_waiting: int = 200, scheduler: Scheduler | None = None
) -> BatchingEngine:
    limits = PackingLimits(
        rows_per_pass=17,
        max_nodes_per_session=6,
        prefill_chunk_tokens=3,
        max_credit=12,
        max_draft_wait_s=0.0,
    )
    return BatchingEngine(
        FakeTarget(),
        scheduler or PackingScheduler(limits),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=Limits(4096, 12, 64, max_sessions),
        max_waiting_sessions=max_waiting,
        software_version="1.2.3",
    )


def opened(
    engine: BatchingEngine, prompt: list[int], tenant: str = ""
) -> tuple[VerifierSession, list[EngineEvent]]:
    message = OpenSession(
        prefix=tuple(prompt),
        num_prompt_tokens=len(prompt),
        max_tokens=NUM_TOKENS,
        sampling=SamplingParams(),
        tokenizer_fingerprint="v1:fake",
        ignore_eos=True,
    )
    events: list[EngineEvent] = []
    return engine.open(message, events.append, tenant), events


def run_to_the_end(engine: BatchingEngine) -> None:
    for _ in range(5000):
        if not engine.step():
            return
    raise AssertionError("the engine never came to an end")


def read(engine: BatchingEngine) -> dict[str, float]:
    """Each sample by its name behind the prefix and its labels but the model's."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(VerifierCollector(engine))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            assert sample.labels["model_name"] == "fake"
            labels = [v for k, v in sample.labels.items() if k != "model_name"]
            found[" ".join([sample.name.removeprefix(PREFIX), *labels])] = sample.value
    return found


def commits(events: list[EngineEvent]) -> list[Commit]:
    return [event for event in events if isinstance(event, Commit)]


def drafted_session(engine: BatchingEngine) -> list[Commit]:
    """Two right nodes and a wrong one below them, then one that nobody has room for."""
    session, events = opened(engine, [1, 2, 3])
    text = greedy_text([1, 2, 3], 5, stop=())
    nodes = [DraftNode(1, text[0], AtPosition(2)), DraftNode(2, text[1], AtNode(1))]
    session.extend([*nodes, DraftNode(3, (text[2] + 1) % 10, AtNode(2))])
    run_to_the_end(engine)
    return commits(events)


def test_drafts_are_counted_under_vllms_names() -> None:
    engine = make_engine()
    drafted_session(engine)
    found = read(engine)
    assert found["spec_decode_num_drafts_total"] == 1
    assert found["spec_decode_num_draft_tokens_total"] == 3
    assert found["spec_decode_num_accepted_tokens_total"] == 2
    assert found["spec_decode_num_accepted_tokens_per_pos_total 0"] == 1
    assert found["spec_decode_num_accepted_tokens_per_pos_total 1"] == 1
    assert "spec_decode_num_accepted_tokens_per_pos_total 2" not in found
    assert found["wasted_nodes_total refuted"] == 1
    assert found["wasted_nodes_total unchecked"] == 0
    assert found["received_nodes_total"] == 3


def test_a_node_that_no_pass_has_checked_is_wasted_when_its_session_is_over() -> None:
    engine = make_engine()
    session, _ = opened(engine, [1, 2, 3])
    text = greedy_text([1, 2, 3], 1, stop=())
    session.extend([DraftNode(1, (text[0] + 1) % 10, AtPosition(0))])  # beside the prompt
    run_to_the_end(engine)
    found = read(engine)
    assert found["received_nodes_total"] == found["wasted_nodes_total unchecked"] == 1
    assert found["wasted_nodes_total refuted"] == 0


def test_what_its_last_pass_has_checked_counts_before_a_session_is_over() -> None:
    engine = make_engine(scheduler=TurnScheduler(max_nodes=12, prefill_chunk_tokens=3))
    session, events = opened(engine, [1, 2, 3])
    text = greedy_text([1, 2, 3], NUM_TOKENS - 1, stop=())
    parents = [AtPosition(2), *(AtNode(node_id) for node_id in range(1, len(text)))]
    session.extend([DraftNode(i + 1, text[i], parent) for i, parent in enumerate(parents)])
    run_to_the_end(engine)
    assert [commit.num_accepted for commit in commits(events)] == [len(text)]
    assert read(engine)["wasted_nodes_total unchecked"] == 0


def test_every_token_has_an_origin_and_they_add_up() -> None:
    engine = make_engine()
    done = drafted_session(engine)
    found = read(engine)
    origins = {
        origin.value: found[f"tokens_by_origin_total {origin.value}"] for origin in TokenOrigin
    }
    assert origins == {"drafted": 2, "guessed": 0, "corrected": 1, "hedged": NUM_TOKENS - 3}
    assert found["generation_tokens_total"] == sum(len(commit.tokens) for commit in done)
    assert found["generation_tokens_total"] == sum(origins.values())
    assert found["prompt_tokens_total"] == 3


def test_times_are_counted_once_for_each_thing_that_took_them() -> None:
    engine = make_engine()
    done = drafted_session(engine)
    found = read(engine)
    assert found["time_to_first_token_seconds_count"] == 1
    assert found["inter_token_latency_seconds_count"] == NUM_TOKENS - 1
    assert found["request_time_per_output_token_seconds_count"] == 1
    assert found["e2e_request_latency_seconds_count"] == 1
    assert found["request_queue_time_seconds_count"] == 1
    assert found["pass_queue_seconds_count"] == len(done) - 1
    assert found["pass_seconds_count"] == found["pass_rows_count"]
    assert found["pass_rows_sum"] == 2 + 4 + NUM_TOKENS - 3  # prompt, the drafted pass, the rest
    assert found["e2e_request_latency_seconds_sum"] >= found["time_to_first_token_seconds_sum"] > 0


def test_ends_are_told_apart() -> None:
    engine = make_engine()
    opened(engine, [1])
    given_up, _ = opened(engine, [2])
    given_up.cancel()
    failed, _ = opened(engine, [3])
    engine._fail(failed, RuntimeError("no"))
    run_to_the_end(engine)
    found = read(engine)
    for how in ("length", "cancelled", "failed"):
        assert found[f"request_success_total {how}"] == 1


def test_what_runs_and_what_waits_is_read_when_prometheus_asks() -> None:
    engine = make_engine(max_sessions=2)
    for number in range(5):
        opened(engine, [number])
    engine.step()
    found = read(engine)
    assert (found["num_requests_running"], found["num_requests_waiting"]) == (2, 3)
    assert found["max_sessions"] == 2
    assert 0 < found["kv_cache_usage_perc"] < 1
    held, cached, free = (found[f"kv_cache_pages {use}"] for use in ("held", "cached", "free"))
    assert found["kv_cache_usage_perc"] == held / (held + cached + free)
    assert found["build_info 1.2.3"] == 1
    run_to_the_end(engine)
    assert read(engine)["kv_cache_usage_perc"] == 0


def test_a_session_that_is_turned_away_is_counted_and_nothing_else_of_it() -> None:
    engine = make_engine(max_sessions=1, max_waiting=0)
    opened(engine, [1])
    with pytest.raises(CapacityError):
        opened(engine, [2])
    run_to_the_end(engine)
    found = read(engine)
    assert found["requests_turned_away_total"] == 1
    assert found["tenant_requests_total anonymous"] == 1


def test_tenants_are_counted_by_name_up_to_a_bound() -> None:
    engine = make_engine()
    for number in range(MAX_TENANTS + 20):
        opened(engine, [number % 10], f"tenant-{number}")
    run_to_the_end(engine)
    found = read(engine)
    names = {name.split()[1] for name in found if name.startswith("tenant_rows_total")}
    assert len(names) == MAX_TENANTS + 1
    assert found[f"tenant_requests_total {OTHER_TENANTS}"] == 20
    for figure, whole in (
        ("rows", "pass_rows_sum"),
        ("generation_tokens", "generation_tokens_total"),
    ):
        shares = [found[f"tenant_{figure}_total {name}"] for name in names]
        assert sum(shares) == found[whole]


def test_a_tenant_without_a_name_is_anonymous() -> None:
    engine = make_engine()
    opened(engine, [1])
    run_to_the_end(engine)
    assert read(engine)[f"tenant_generation_tokens_total {NO_TENANT}"] == NUM_TOKENS


def test_whatever_sessions_do_all_sums_agree() -> None:
    chance = random.Random(7)
    engine = make_engine()
    for number in range(30):
        session, _ = opened(engine, [chance.randrange(10) for _ in range(1 + number % 7)])
        session.extend([DraftNode(1, chance.randrange(10), AtPosition(number % 7))])
        if chance.random() < 0.2:
            session.cancel()
        for _ in range(chance.randrange(4)):
            engine.step()
    run_to_the_end(engine)
    found = read(engine)
    ends = sum(value for name, value in found.items() if name.startswith("request_success_total"))
    assert ends == found["e2e_request_latency_seconds_count"] == 30
    checked = found["spec_decode_num_draft_tokens_total"]
    assert checked + found["wasted_nodes_total unchecked"] == found["received_nodes_total"] == 30
    tokens = sum(value for name, value in found.items() if name.startswith("tokens_by_origin"))
    assert tokens == found["generation_tokens_total"]


def test_every_metric_has_a_meaning_and_every_meaning_a_metric() -> None:
    names = {
        metric.name.removeprefix(PREFIX) for metric in VerifierCollector(make_engine()).collect()
    }
    assert names == MEANINGS.keys()


def test_the_endpoint_serves_the_figures_and_those_of_the_process() -> None:
    engine = make_engine()
    drafted_session(engine)
    with offered_metrics(VerifierCollector(engine), "127.0.0.1", 0) as port:
        address = f"http://127.0.0.1:{port}/metrics"
        page = urllib.request.urlopen(address, timeout=10).read().decode()
    assert f"{PREFIX}generation_tokens_total{{model_name={json.dumps('fake')}}} 12.0" in page
    assert "process_resident_memory_bytes" in page


def test_without_a_port_nothing_listens() -> None:
    with offered_metrics(VerifierCollector(make_engine()), "127.0.0.1", None) as port:
        assert port is None


def test_an_address_that_is_taken_is_named_with_the_remedy() -> None:
    collector = VerifierCollector(make_engine())
    with offered_metrics(collector, "127.0.0.1", 0) as port:
        expected = pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port}.*--metrics-port")
        with expected, offered_metrics(collector, "127.0.0.1", port):
            pass
    with offered_metrics(collector, "127.0.0.1", port) as again:
        assert again == port
