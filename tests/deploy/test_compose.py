"""The compose file: what it mounts is there, what it sets are settings, and images are pinned."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_images import fault_of_image
from deploy_objects import ROOT

from outrider_common.config_loading import load_settings

COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load(COMPOSE.with_name("prometheus.yml").read_text())


def test_the_verifiers_variables_are_settings() -> None:
    verifier = load_settings(environment=SERVICES["verifier"]["environment"]).settings.verifier
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["dns_sd_configs"][0]["port"] == verifier.metrics_port
    assert verifier.metrics_host == verifier.host == "0.0.0.0"


def test_envoy_is_sent_to_the_verifiers_port_by_the_name_of_their_service() -> None:
    envoy = yaml.safe_load((ROOT / "deploy" / "envoy" / "envoy.yaml").read_text())
    (cluster,) = envoy["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    verifier = load_settings(environment=SERVICES["verifier"]["environment"]).settings.verifier
    assert address == {"address": "verifier", "port_value": verifier.port}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = COMPOSE.parent / str(volume).partition(":")[0]
        assert source.resolve().is_file()
        assert str(volume).endswith(":ro")


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_no_privileges_and_images_of_others_are_named_by_digest(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "build" in service or fault_of_image(service["image"]) is None


def test_what_is_built_is_a_stage_that_exists() -> None:
    build = SERVICES["verifier"]["build"]
    dockerfile = (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve()
    assert Path(dockerfile).is_file()
    assert f" AS {build['target']}\n" in dockerfile.read_text()


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
