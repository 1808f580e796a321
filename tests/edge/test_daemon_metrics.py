"""What Prometheus reads: vLLM's names where they exist, and the estimators' figures."""

import pytest
from fake_runtime import a_record, a_result_stats
from prometheus_client.parser import text_string_to_metric_families

from outrider_common.messages import FinishReason
from outrider_edge.daemon_metrics import DaemonMetrics
from outrider_edge.estimators import Estimates, Estimators
from outrider_edge.generation import GenerationResult

RECORDS = [a_record(i, "x") for i in range(4)]
RESULT = GenerationResult("xxxx", FinishReason.STOP, tuple(RECORDS), a_result_stats(RECORDS))


def values(metrics: DaemonMetrics) -> dict[str, float]:
    """Each sample by its name and its labels but the model's."""
    found = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "model_name"}
            found[sample.name + "".join(f" {v}" for v in labels.values())] = sample.value
    return found


def test_vllms_counters_carry_vllms_names() -> None:
    metrics = DaemonMetrics(lambda: None)
    metrics.prompted("fake", 7)
    metrics.first_token("fake", 0.03)
    metrics.answered("fake", RESULT, 1.0)
    found = values(metrics)
    assert found["vllm:prompt_tokens_total"] == 7
    assert found["vllm:generation_tokens_total"] == 4
    assert found["vllm:request_success_total stop"] == 1
    assert found["vllm:spec_decode_num_drafts_total"] == 2
    assert found["vllm:spec_decode_num_draft_tokens_total"] == 5
    assert found["vllm:spec_decode_num_accepted_tokens_total"] == 2
    assert found["vllm:spec_decode_num_accepted_tokens_per_pos_total 0"] == 1
    assert found["vllm:time_to_first_token_seconds_count"] == 1
    assert found["vllm:inter_token_latency_seconds_count"] == 3
    assert found["vllm:inter_token_latency_seconds_sum"] == pytest.approx(0.03)
    assert found["vllm:e2e_request_latency_seconds_sum"] == 1


def test_our_own_counters_say_who_said_a_token() -> None:
    metrics = DaemonMetrics(lambda: None)
    metrics.answered("fake", RESULT, 1.0)
    found = values(metrics)
    assert found["outrider_edge_tokens_total drafted"] == 2
    assert found["outrider_edge_tokens_total hedged"] == 2
    assert found["outrider_edge_tokens_total corrected"] == 0
    assert found["outrider_edge_link_bytes_total up"] == 100


def test_estimates_are_read_when_the_page_is() -> None:
    estimators = Estimators()
    metrics = DaemonMetrics(estimators.estimates)
    assert "outrider_edge_estimated_pass_seconds" not in values(metrics)
    estimators.passed(0.03, 0.001, num_rows=1)
    estimators.waited(0.04)
    estimators.decided(False)
    found = values(metrics)
    assert found["outrider_edge_estimated_pass_seconds"] == 0.03
    assert found["outrider_edge_estimated_hedging_rate_per_second"] == 25
    assert found["outrider_edge_estimated_acceptance"] == 0


def test_every_estimate_has_a_meaning() -> None:
    everything = Estimates(*[1.0] * len(Estimates.__dataclass_fields__))
    page = DaemonMetrics(lambda: everything).page().decode()
    for name in Estimates.__dataclass_fields__:
        assert f"outrider_edge_estimated_{name.removesuffix('_s')}" in page


def test_two_daemons_in_a_process_count_for_themselves() -> None:
    one, other = DaemonMetrics(lambda: None), DaemonMetrics(lambda: None)
    one.prompted("fake", 1)
    assert "vllm:prompt_tokens_total" not in values(other)
