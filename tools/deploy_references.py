"""Whether the objects of an overlay find one another: by selectors, ports, names and volumes.

Each rule takes all objects of one overlay and yields a sentence for each fault. No schema sees any
of this. Knows nothing of Outrider.
"""

from collections.abc import Iterator
from typing import Final

from deploy_objects import (
    WORKLOADS,
    Object,
    called,
    containers_of,
    labels_of_pods,
    names_of,
    namespace_of,
    of_kind,
    pod_of,
    ports_of,
    selected,
    selector_of,
    values_under,
)

SECRETS_FROM_OUTSIDE: Final = {
    "edge-fleet-passwords",
    "edge-token",
    "mosquitto-passwords",
    "outrider-edge-ca",
    "verifier-gateway-tls",
    "verifier-tenants",
}
"""Secrets that operators make themselves: docs/kubernetes.md says how."""


def selectors_find_pods(objects: list[Object]) -> Iterator[str]:
    """Who selects pods, finds some."""
    for one in of_kind(objects, "Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        if not selected(objects, namespace_of(one), selector_of(one)):
            yield f"{called(one)} selects no pods of this overlay by {selector_of(one)}"
    for workload in of_kind(objects, *WORKLOADS):
        labels = labels_of_pods(workload).items()
        if not selector_of(workload).items() <= labels:
            yield f"{called(workload)} does not select its own pods"
        for spread in pod_of(workload).get("topologySpreadConstraints", []):
            if not spread["labelSelector"]["matchLabels"].items() <= labels:
                yield f"{called(workload)} is spread by labels that its pods do not bear"


def services_name_ports(objects: list[Object]) -> Iterator[str]:
    """Services and monitors name ports of the pods that they select."""
    for one in of_kind(objects, "Service", "PodMonitor"):
        spec = one["spec"]
        wanted = [port["targetPort"] for port in spec.get("ports", [])]
        wanted += [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", [])]
        for workload in selected(objects, namespace_of(one), selector_of(one)):
            for port in wanted:
                if port not in _all_ports(workload):
                    yield f"{called(one)} means the port {port}; {called(workload)} has no such"


def probes_name_ports(objects: list[Object]) -> Iterator[str]:
    """Probes ask on ports of their pods."""
    for workload in of_kind(objects, *WORKLOADS):
        for kind in ("grpc", "httpGet", "tcpSocket"):
            for probe in values_under(pod_of(workload), kind):
                if probe["port"] not in _all_ports(workload):
                    yield f"{called(workload)} is probed on {probe['port']}, which is no port of it"


def what_is_used_is_there(objects: list[Object]) -> Iterator[str]:
    """Config maps, secrets, claims and accounts are of the overlay or known to be elsewhere."""
    made = {one["spec"]["secretName"] for one in of_kind(objects, "Certificate")}
    there = {
        "config map": names_of(objects, "ConfigMap"),
        "secret": made | SECRETS_FROM_OUTSIDE,
        "claim": names_of(objects, "PersistentVolumeClaim"),
        "account": names_of(objects, "ServiceAccount"),
    }
    for one in of_kind(objects, "Gateway", "Issuer", *WORKLOADS):
        for noun, name in _used_by(one):
            if name not in there[noun]:
                yield f"{called(one)} uses the {noun} {name}, which is not there"


def _used_by(one: Object) -> Iterator[tuple[str, str]]:
    """What an object refers to: a noun and a name for each."""
    for noun, key, field in (
        ("config map", "configMap", "name"),
        ("config map", "configMapKeyRef", "name"),
        ("secret", "secret", "secretName"),
        ("secret", "secretKeyRef", "name"),
        ("claim", "persistentVolumeClaim", "claimName"),
    ):
        yield from ((noun, value[field]) for value in values_under(one["spec"], key))
    yield from (("account", name) for name in values_under(one["spec"], "serviceAccountName"))
    if one["kind"] == "Issuer":
        yield from (("secret", authority["secretName"]) for authority in values_under(one, "ca"))
    for references in values_under(one["spec"], "certificateRefs"):
        yield from (("secret", reference["name"]) for reference in references)


def issuers_are_there(objects: list[Object]) -> Iterator[str]:
    """A certificate comes from an issuer of its own namespace."""
    issuers = {(namespace_of(one), one["metadata"]["name"]) for one in of_kind(objects, "Issuer")}
    for one in of_kind(objects, "Certificate"):
        name = one["spec"]["issuerRef"]["name"]
        if (namespace_of(one), name) not in issuers:
            yield f"{called(one)} is to come from the issuer {name}, which is not there"


def volumes_are_mounted(objects: list[Object]) -> Iterator[str]:
    """Each mount names a volume, and each volume is mounted."""
    for workload in of_kind(objects, *WORKLOADS):
        volumes = {one["name"] for one in pod_of(workload).get("volumes", [])}
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes |= {one["metadata"]["name"] for one in claims}
        mounts = {mount["name"] for one in containers_of(workload) for mount in one["volumeMounts"]}
        yield from (f"{called(workload)} mounts no volume {name}" for name in volumes - mounts)
        yield from (f"{called(workload)} has no volume {name}" for name in mounts - volumes)


def routes_lead_somewhere(objects: list[Object]) -> Iterator[str]:
    """A route hangs from a listener of the overlay and ends at a Service and a port of it."""
    listeners = {
        (gateway["metadata"]["name"], listener["name"])
        for gateway in of_kind(objects, "Gateway")
        for listener in gateway["spec"]["listeners"]
    }
    ports = {
        (service["metadata"]["name"], port["port"])
        for service in of_kind(objects, "Service")
        for port in service["spec"]["ports"]
    }
    for route in of_kind(objects, "GRPCRoute"):
        for parent in route["spec"]["parentRefs"]:
            if (parent["name"], parent["sectionName"]) not in listeners:
                yield f"{called(route)} hangs from {parent}, which is not there"
        for backend in next(values_under(route, "backendRefs")):
            if (backend["name"], backend["port"]) not in ports:
                yield f"{called(route)} sends to {backend}, which is not there"


def scalers_scale_something(objects: list[Object]) -> Iterator[str]:
    """A scaler has a target, which does not say itself how many replicas there are."""
    deployments = {one["metadata"]["name"]: one for one in of_kind(objects, "Deployment")}
    for scaler in of_kind(objects, "ScaledObject"):
        name = scaler["spec"]["scaleTargetRef"]["name"]
        if name not in deployments:
            yield f"{called(scaler)} scales the Deployment {name}, which is not there"
        elif "replicas" in deployments[name]["spec"]:
            yield f"Deployment {name} says how many replicas there are, and so does its scaler"


def _all_ports(workload: Object) -> set[str | int]:
    """The ports of a workload's pods by name and by number."""
    return {*ports_of(workload), *ports_of(workload).values()}


RULES: Final = (
    selectors_find_pods,
    services_name_ports,
    probes_name_ports,
    what_is_used_is_there,
    issuers_are_there,
    volumes_are_mounted,
    routes_lead_somewhere,
    scalers_scale_something,
)
