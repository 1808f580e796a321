"""The Kubernetes manifests: right as they are, and each of many seeded mistakes is caught."""

import copy
from collections.abc import Callable
from functools import cache

import check_deploy
import pytest
from deploy_objects import (
    WORKLOADS,
    Object,
    called,
    of_kind,
    overlays,
    pod_of,
    render,
    values_under,
)
from deploy_schemas import install_schemas

FILE = "outrider.toml"

Mutation = Callable[[list[Object]], object]


@pytest.fixture(scope="session", autouse=True)
def schemas() -> None:
    install_schemas()


@cache
def rendered(overlay: str) -> list[Object]:
    return render(overlay)


def spoiled(overlay: str, spoil: Mutation) -> list[str]:
    """What the checks say of an overlay after a mistake was made in it."""
    objects = copy.deepcopy(rendered(overlay))
    spoil(objects)
    return check_deploy.faults_of_objects(objects)


def the(objects: list[Object], kind: str) -> Object:
    (one,) = of_kind(objects, kind)
    return one


def pod(objects: list[Object], kind: str = "Deployment") -> Object:
    return pod_of(the(objects, kind))


def container(objects: list[Object], kind: str = "Deployment") -> Object:
    found: Object = pod(objects, kind)["containers"][0]
    return found


def volume(objects: list[Object], name: str, kind: str = "DaemonSet") -> Object:
    found: Object
    (found,) = (one for one in pod(objects, kind)["volumes"] if one["name"] == name)
    return found


def mount(objects: list[Object], name: str) -> Object:
    found: Object
    mounts = container(objects, "DaemonSet")["volumeMounts"]
    (found,) = (one for one in mounts if one["name"] == name)
    return found


def variable(objects: list[Object], name: str) -> Object:
    found: Object
    (found,) = (one for one in container(objects, "DaemonSet")["env"] if one["name"] == name)
    return found


def settings_file(objects: list[Object]) -> dict[str, str]:
    found: dict[str, str]
    (found,) = (one["data"] for one in of_kind(objects, "ConfigMap") if FILE in one["data"])
    return found


def selector(objects: list[Object], kind: str) -> Object:
    found: Object = the(objects, kind)["spec"]["selector"]
    return found


def scale_down(objects: list[Object]) -> Object:
    found: Object = next(values_under(the(objects, "ScaledObject"), "scaleDown"))
    return found


def rule_of_route(objects: list[Object]) -> Object:
    found: Object = the(objects, "GRPCRoute")["spec"]["rules"][0]
    return found


def without_policy(objects: list[Object], name: str) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    objects.remove(next(one for one in policies if one["metadata"]["name"] == name))


def replace_setting(objects: list[Object], old: str, new: str) -> None:
    data = settings_file(objects)
    assert old in data[FILE]
    data[FILE] = data[FILE].replace(old, new)


def drop_variable(objects: list[Object], name: str) -> None:
    variables = container(objects)["env"]
    (dropped,) = (one for one in variables if one["name"] == name)
    variables.remove(dropped)


def trigger(objects: list[Object], index: int) -> Object:
    found: Object = the(objects, "ScaledObject")["spec"]["triggers"][index]
    return found


@pytest.mark.parametrize("overlay", overlays())
def test_an_overlay_has_no_faults(overlay: str) -> None:
    assert check_deploy.faults_of_objects(rendered(overlay)) == []


MISTAKES: dict[str, tuple[str, Mutation, str]] = {
    # What schemas see.
    "a field that no Deployment has": (
        "gpu",
        lambda o: the(o, "Deployment")["spec"].update(replica=3),
        "replica",
    ),
    "a custom resource with a field of the wrong type": (
        "gpu",
        lambda o: the(o, "ScaledObject")["spec"].update(maxReplicaCount="8"),
        "must be",
    ),
    "a custom resource with a field that it does not have": (
        "gpu",
        lambda o: the(o, "ScaledObject")["spec"].update(maxReplicas=8),
        "no field of",
    ),
    "a route with a field that it does not have": (
        "multi-gpu",
        lambda o: rule_of_route(o).update(timeout="1s"),
        "no field",
    ),
    # References.
    "a Service that selects other pods": (
        "gpu",
        lambda o: the(o, "Service")["spec"].update(selector={"app": "verifyer"}),
        "selects no pods",
    ),
    "a Deployment that does not select its own pods": (
        "gpu",
        lambda o: selector(o, "Deployment").update(matchLabels={"a": "b"}),
        "its own pods",
    ),
    "a disruption budget for nobody": (
        "gpu",
        lambda o: selector(o, "PodDisruptionBudget").update(matchLabels={"a": "b"}),
        "selects no pods",
    ),
    "a Service that means a port that pods do not have": (
        "gpu",
        lambda o: the(o, "Service")["spec"]["ports"][0].update(targetPort="http"),
        "has no such",
    ),
    "a probe on a port that pods do not have": (
        "gpu",
        lambda o: container(o)["readinessProbe"]["grpc"].update(port=7412),
        "is no port of it",
    ),
    "a config map that is not there": (
        "gpu",
        lambda o: pod(o)["volumes"][1]["configMap"].update(name="verifier-config"),
        "which is not there",
    ),
    "a secret that nobody makes": (
        "gpu",
        lambda o: pod(o)["volumes"][0]["secret"].update(secretName="tls"),
        "which is not there",
    ),
    "a secret of an edge that nobody makes": (
        "edge-k3s",
        lambda o: volume(o, "token")["secret"].update(secretName="token"),
        "which is not there",
    ),
    "an authority from a secret that nobody makes": (
        "edge-k3s-mtls",
        lambda o: the(o, "Issuer")["spec"]["ca"].update(secretName="ca"),
        "Issuer outrider-edge uses the secret ca",
    ),
    "a certificate from an issuer that is not there": (
        "edge-k3s-mtls",
        lambda o: the(o, "Certificate")["spec"]["issuerRef"].update(name="outrider"),
        "issuer outrider, which is not there",
    ),
    "a mount without its volume": (
        "gpu",
        lambda o: container(o)["volumeMounts"].append({"name": "cache", "mountPath": "/c"}),
        "no volume cache",
    ),
    "a route to a Service that is not there": (
        "multi-gpu",
        lambda o: rule_of_route(o)["backendRefs"][0].update(name="verifer"),
        "sends to",
    ),
    "a route from a listener that is not there": (
        "multi-gpu",
        lambda o: the(o, "GRPCRoute")["spec"]["parentRefs"][0].update(sectionName="https"),
        "hangs from",
    ),
    "a number of replicas beside a scaler": (
        "gpu",
        lambda o: the(o, "Deployment")["spec"].update(replicas=2),
        "and so does its scaler",
    ),
    # Hardening.
    "an image by its tag": (
        "gpu",
        lambda o: container(o).update(image="registry.example.com/outrider-verifier:1.0"),
        "digest",
    ),
    "an image volume by its tag": (
        "edge-k3s",
        lambda o: volume(o, "bundles")["image"].update(reference="bundle:1"),
        "digest",
    ),
    "an image of others with a digest that nobody has": (
        "edge-k3s",
        lambda o: container(o, "StatefulSet").update(image=f"docker.io/a/b@sha256:{'0' * 64}"),
        "no published image has",
    ),
    "a pod that runs as root": (
        "gpu",
        lambda o: pod(o)["securityContext"].update(runAsNonRoot=False),
        "user of their own",
    ),
    "a root file system that can be written": (
        "gpu",
        lambda o: container(o)["securityContext"].update(readOnlyRootFilesystem=False),
        "readOnlyRootFilesystem",
    ),
    "a token for the API server": (
        "gpu",
        lambda o: pod(o).pop("automountServiceAccountToken"),
        "no token",
    ),
    "variables of services, which would look like settings": (
        "gpu",
        lambda o: pod(o).pop("enableServiceLinks"),
        "variables of services",
    ),
    "fewer GPUs asked for than are the limit": (
        "gpu",
        lambda o: container(o)["resources"]["requests"].pop("nvidia.com/gpu"),
        "nvidia.com/gpu",
    ),
    "no limit of memory": (
        "cpu-demo",
        lambda o: container(o)["resources"]["limits"].pop("memory"),
        "limit of memory",
    ),
    "a namespace that is open by default": (
        "gpu",
        lambda o: without_policy(o, "default-deny"),
        "deny by default",
    ),
    "a Service whose port is closed": (
        "cpu-demo",
        lambda o: without_policy(o, "verifier"),
        "lets anybody reach Service verifier",
    ),
    "Prometheus shut out": (
        "gpu",
        lambda o: without_policy(o, "verifier-metrics"),
        "lets anybody reach PodMonitor",
    ),
    "an inlined secret": (
        "gpu",
        lambda o: container(o)["env"].append({"name": "HF_TOKEN", "value": "hf_abc"}),
        "HF_TOKEN inlined",
    ),
    "a budget that lets no node be drained": (
        "gpu",
        lambda o: the(o, "PodDisruptionBudget")["spec"].update(maxUnavailable=0),
        "maxUnavailable 1",
    ),
    "no probe for the start": (
        "gpu",
        lambda o: container(o).pop("startupProbe"),
        "no startupProbe",
    ),
    "replicas taken away at once": (
        "gpu",
        lambda o: scale_down(o).update(stabilizationWindowSeconds=60),
        "after 60 s",
    ),
    "scaling by processor": (
        "gpu",
        lambda o: trigger(o, 0).update(type="cpu", metricType="Utilization"),
        "processor",
    ),
    # Our own settings, commands and services.
    "a setting that does not exist": (
        "gpu",
        lambda o: replace_setting(o, "max_sessions", "max_session"),
        "verifier.max_session",
    ),
    "a setting with a value that is not allowed": (
        "gpu",
        lambda o: replace_setting(o, "shadow_rate = 0.001", "shadow_rate = 2"),
        "shadow_rate",
    ),
    "a variable that is no setting": (
        "gpu",
        lambda o: container(o)["env"].append({"name": "OUTRIDER_VERIFIER_GPU", "value": "1"}),
        "OUTRIDER_VERIFIER_GPU",
    ),
    "a verifier that is open without saying so": (
        "cpu-demo",
        lambda o: replace_setting(o, "insecure = true\n", ""),
        "no TLS",
    ),
    "a verifier that has lost its certificate": (
        "gpu",
        lambda o: drop_variable(o, "OUTRIDER_VERIFIER_TLS_CERTIFICATE"),
        "no TLS",
    ),
    "a configuration file that no config map holds": (
        "gpu",
        lambda o: settings_file(o).pop(FILE),
        "no config map puts there",
    ),
    "another port in the settings than in the pod": (
        "gpu",
        lambda o: replace_setting(o, "port = 7411", "port = 7500"),
        "7500",
    ),
    "a verifier that only its own pod reaches": (
        "gpu",
        lambda o: replace_setting(o, '\nhost = "0.0.0.0"', '\nhost = "127.0.0.1"'),
        "others reach",
    ),
    "a command that does not exist": (
        "edge-k3s",
        lambda o: container(o, "DaemonSet").update(args=["edge", "start"]),
        "no 'start'",
    ),
    "an option that does not exist": (
        "gpu",
        lambda o: container(o)["args"].append("--gpu"),
        "--gpu",
    ),
    "a probe for a service that is not served": (
        "gpu",
        lambda o: container(o)["livenessProbe"]["grpc"].update(service="outrider.v1.Verifier"),
        "probed for",
    ),
    "a route for a service that is not served": (
        "multi-gpu",
        lambda o: rule_of_route(o)["matches"][0]["method"].update(
            service="outrider.v2.VerifierService"
        ),
        "matches outrider.v2",
    ),
    "too little time to drain": (
        "gpu",
        lambda o: pod(o).update(terminationGracePeriodSeconds=30),
        "killed after 30 s",
    ),
    "an edge killed before its answers have ended": (
        "edge-k3s",
        lambda o: replace_setting(o, "stop_grace_s = 20.0", "stop_grace_s = 60.0"),
        "drains 60 s",
    ),
    "too little time to load a model": (
        "gpu",
        lambda o: container(o)["startupProbe"].update(failureThreshold=3),
        "time to load",
    ),
    "a certificate of an edge that is looked for elsewhere": (
        "edge-k3s-mtls",
        lambda o: mount(o, "tls").update(mountPath="/etc/tls"),
        "where no volume is mounted",
    ),
    "a password for the fleet that is mounted elsewhere": (
        "edge-k3s",
        lambda o: mount(o, "fleet-passwords").update(mountPath="/etc/outrider-fleet/secret"),
        "is to read /etc/outrider-fleet/password",
    ),
    "a fleet without its broker": (
        "edge-k3s",
        lambda o: replace_setting(o, "mqtt://mosquitto:1883", "mqtt://mosquito:1883"),
        "reports to mqtt://mosquito:1883",
    ),
    "a verifier on a port that edges are not let out to": (
        "edge-k3s",
        lambda o: replace_setting(o, "verifier.example.com:443", "verifier.example.com:8443"),
        "no NetworkPolicy lets it out",
    ),
    "devices that all have one name": (
        "edge-k3s",
        lambda o: variable(o, "OUTRIDER_FLEET_DEVICE_ID").update(value="edge"),
        "not edge and node-1",
    ),
    "scaling when passes are full already": (
        "gpu",
        lambda o: trigger(o, 1)["metadata"].update(threshold="512"),
        "512 rows a pass",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_manifests_is_caught_and_named(mistake: str) -> None:
    overlay, spoil, said = MISTAKES[mistake]
    faults = spoiled(overlay, spoil)
    assert any(said in fault for fault in faults), faults


def test_each_overlay_runs_what_it_is_for() -> None:
    workloads = {
        overlay: sorted(map(called, of_kind(rendered(overlay), *WORKLOADS)))
        for overlay in overlays()
    }
    assert workloads == {
        "cpu-demo": ["Deployment verifier"],
        "edge-k3s": ["DaemonSet edge", "StatefulSet mosquitto"],
        "edge-k3s-mtls": ["DaemonSet edge", "StatefulSet mosquitto"],
        "gpu": ["Deployment verifier"],
        "multi-gpu": ["Deployment verifier"],
    }
