"""docs/kubernetes.md: its commands make the secrets that manifests mount, and those work."""

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from certificates import Authority
from deploy_objects import (
    ROOT,
    WORKLOADS,
    Object,
    containers_of,
    of_kind,
    overlays,
    pod_of,
    render,
    values_under,
)
from deploy_references import SECRETS_FROM_OUTSIDE
from deploy_settings import FIELDS, main_containers, settings_of
from k3s_broker import running_broker

from outrider_cloud.bearer_tokens import id_of, is_token
from outrider_cloud.tenants import TenantDirectory
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.access_check import check_access
from outrider_edge.fleet.broker import BrokerRefusalError

COMMANDS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NODE = FIELDS["spec.nodeName"]
AT_HAND = f"""
set -e
outrider() {{ "{sys.executable}" -m outrider "$@"; }}
kubectl() {{
  case "$*" in
    "get nodes"*) printf 'node/{NODE}\\nnode/node-2\\n' ;;
    *" get secret "*) echo "of cert-manager" ;;
    *) command kubectl "$@" --dry-run=client --output yaml >> secrets; echo --- >> secrets ;;
  esac
}}
"""
"""What stands for a cluster."""

Secrets = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    """What the page's commands make: names, keys, contents."""
    directory = tmp_path_factory.mktemp("page")
    Authority(directory).issue("gateway")
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    script = AT_HAND + "".join(COMMANDS.findall(page))
    subprocess.run(["bash", "-c", script], cwd=directory, check=True, capture_output=True)
    made = [one for one in yaml.safe_load_all((directory / "secrets").read_text()) if one]
    return {
        one["metadata"]["name"]: {k: base64.b64decode(v) for k, v in one["data"].items()}
        for one in made
    }


def test_the_page_makes_every_secret_that_no_manifest_makes(secrets: Secrets) -> None:
    assert secrets.keys() == SECRETS_FROM_OUTSIDE


@pytest.mark.parametrize("overlay", overlays())
def test_what_is_read_of_a_secret_is_in_it(overlay: str, secrets: Secrets) -> None:
    objects = render(overlay)
    for workload in of_kind(objects, *WORKLOADS):
        for name, keys in wanted(objects, workload):
            assert keys
            assert name not in secrets or keys <= secrets[name].keys()


def wanted(objects: list[Object], workload: Object) -> Iterator[tuple[str, set[str]]]:
    """The secrets that a workload mounts, and what it reads of each."""
    texts = [text for one in of_kind(objects, "ConfigMap") for text in one["data"].values()]
    texts += list(values_under(pod_of(workload), "value"))
    volumes = {one["name"]: one.get("secret") for one in pod_of(workload)["volumes"]}
    for container in containers_of(workload):
        for mount in container["volumeMounts"]:
            if secret := volumes.get(mount["name"]):
                files = re.compile(rf"{mount['mountPath']}/([\w.-]+)")
                keys = {file for text in texts for file in files.findall(text)}
                yield secret["secretName"], {NODE} if "subPathExpr" in mount else keys


def test_the_token_that_edges_get_is_one_that_the_verifier_knows(secrets: Secrets) -> None:
    token = secrets["edge-token"]["token"].decode().strip()
    directory = TenantDirectory.parse(secrets["verifier-tenants"]["tenants.toml"].decode(), "page")
    tenant, entry = directory.by_token[id_of(token) or ""]
    assert tenant == "acme"
    assert is_token(token, entry.sha256)


def fleet_of_edges(port: int, password_file: Path) -> FleetSettings:
    """What the manifests tell an edge of its fleet, with the broker and the password elsewhere."""
    objects = render("edge-k3s")
    (edge,) = of_kind(objects, "DaemonSet")
    (container,) = main_containers(edge)
    return settings_of(objects, edge, container).fleet.model_copy(
        update={"broker": f"mqtt://127.0.0.1:{port}", "password_file": password_file}
    )


def test_the_broker_takes_an_edge_with_the_password_of_its_node_and_no_other(
    secrets: Secrets, tmp_path: Path
) -> None:
    for name, password in secrets["edge-fleet-passwords"].items():
        (tmp_path / name).write_bytes(password)
    (tmp_path / "passwords").write_bytes(secrets["mosquitto-passwords"]["passwords"])
    with running_broker(tmp_path, tmp_path / "passwords") as port:
        assert check_access(fleet_of_edges(port, tmp_path / NODE), NODE) > 0
        with pytest.raises(BrokerRefusalError, match="does not take the user"):
            check_access(fleet_of_edges(port, tmp_path / "node-2"), NODE)


def test_edges_get_the_passwords_of_nodes_and_not_the_operators(secrets: Secrets) -> None:
    assert secrets["edge-fleet-passwords"].keys() == {NODE, "node-2"}
