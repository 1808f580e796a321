"""Dashboard, alerts and scaling ask for figures that the code really exports, under such labels."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from deploy_objects import KUBERNETES, ROOT, of_kind, render, values_under
from prometheus_client.core import Metric

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.server import build_engine
from outrider_cloud.verifier_metrics import VerifierCollector
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.daemon_metrics import DaemonMetrics
from outrider_edge.estimators import Estimates
from outrider_models.store import ModelStore

DASHBOARD = KUBERNETES / "components" / "monitoring" / "outrider-verifier.json"
ALERTS = ROOT / "deploy" / "prometheus" / "outrider-rules.yaml"
RUNBOOKS = ROOT / "docs" / "operations.md"

FROM_PROMETHEUS = {"namespace", "pod", "instance", "job"}
"""Labels that come with the scrape."""

PROCESS = {"process_resident_memory_bytes": frozenset[str]()}
"""What prometheus-client tells of any process on Linux."""

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NAME = re.compile(r"\b(?:outrider_\w+|vllm:\w+|process_\w+)")
SELECTOR = re.compile(r"(?P<name>(?:outrider_|vllm:|process_)\w+)\{(?P<labels>[^}]*)\}")
GROUPING = re.compile(r"by\s*\((?P<labels>[^)]*)\)")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, frozenset[str]]:
    """Every sample that verifiers and edges export, by name, with its labels."""
    everything = Estimates(*[1.0] * len(Estimates.__dataclass_fields__))
    edge = DaemonMetrics(lambda: everything)
    store = ModelStore(tmp_path_factory.mktemp("store"))
    engine = build_engine(VerifierSettings(model="synthetic:c0=1ms"), store)
    return samples_of_verifier(engine) | samples_of_edge(edge) | PROCESS


def samples_of_verifier(engine: BatchingEngine) -> dict[str, frozenset[str]]:
    return dict(samples(VerifierCollector(engine).collect()))


def samples_of_edge(edge: DaemonMetrics) -> dict[str, frozenset[str]]:
    labelled = {
        f"{one._name}{suffix}": frozenset(one._labelnames)
        | ({"le"} if suffix == "_bucket" else set())
        for one in vars(edge).values()
        if hasattr(one, "_labelnames")
        for suffix in SUFFIXES[one._type]
    }
    return dict(samples(edge._registry.collect())) | labelled


def samples(metrics: Iterable[Metric]) -> Iterator[tuple[str, frozenset[str]]]:
    for metric in metrics:
        labels = frozenset(getattr(metric, "_labelnames", ()))
        for suffix in SUFFIXES[metric.type]:
            yield metric.name + suffix, labels | {"le"} if suffix == "_bucket" else labels


def expressions() -> dict[str, list[str]]:
    """What is asked of Prometheus, by who asks."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    variables = [
        one["definition"] for one in dashboard["templating"]["list"] if "definition" in one
    ]
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    scalers = of_kind(render("gpu"), "ScaledObject")
    return {
        "dashboard": panels + variables,
        "alerts": [rule["expr"] for rule in rules],
        "scaling": list(values_under(scalers, "query")),
    }


@pytest.mark.parametrize("who", ["dashboard", "alerts", "scaling"])
def test_every_figure_that_is_asked_for_is_exported(
    exported: dict[str, frozenset[str]], who: str
) -> None:
    asked = {name for text in expressions()[who] for name in NAME.findall(text)}
    assert asked
    assert asked <= exported.keys()


@pytest.mark.parametrize("who", ["dashboard", "alerts", "scaling"])
def test_figures_are_selected_and_grouped_by_labels_that_they_have(
    exported: dict[str, frozenset[str]], who: str
) -> None:
    for text in expressions()[who]:
        for found in SELECTOR.finditer(text):
            labels = set(re.findall(r"(\w+)\s*[=!]", found["labels"]))
            assert labels <= exported[found["name"]] | FROM_PROMETHEUS, text
        known = frozenset[str]().union(*(exported[name] for name in NAME.findall(text)))
        for found in GROUPING.finditer(text):
            labels = set(re.findall(r"\w+", found["labels"]))
            assert labels <= known | FROM_PROMETHEUS, text


def test_every_alert_has_a_runbook() -> None:
    headings = re.findall(r"^#+ (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["alert"] in headings
            path = rule["annotations"]["runbook"]
            assert path == f"{RUNBOOKS.relative_to(ROOT)}#{rule['alert'].lower()}"


def test_every_alert_is_tried() -> None:
    tried = (ALERTS.parent / "outrider-rules-test.yaml").read_text()
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert tried.count(rule["alert"]) >= 2, "once silent, once firing"


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(Path(DASHBOARD).read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
