"""Whether the pods of an overlay are shut in, bounded, pinned and kept available.

Each rule takes all objects of one overlay and yields a sentence for each fault. Knows nothing of
Outrider.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from deploy_images import fault_of_image
from deploy_objects import (
    WORKLOADS,
    Object,
    called,
    containers_of,
    labels_of_pods,
    namespace_of,
    of_kind,
    pod_of,
    ports_of,
    selected,
    selector_of,
    values_under,
)

LEAST_STABILISATION_S: Final = 600
"""Replicas are not taken away sooner after they were needed: sessions have to move then."""

_SECRET_NAME = re.compile(r"(PASSWORD|SECRET|TOKEN)(?!\w*_FILE$)")
_PROFILE: Final = "pod-security.kubernetes.io/enforce"


def images_are_pinned(objects: list[Object]) -> Iterator[str]:
    """What runs is named by its digest, so that it is the same on every node."""
    for workload in of_kind(objects, *WORKLOADS):
        containers = (one["image"] for one in containers_of(workload))
        volumes = (one["image"] for one in pod_of(workload).get("volumes", []) if "image" in one)
        images = [*containers, *(volume["reference"] for volume in volumes)]
        for image in images:
            if fault := fault_of_image(image):
                yield f"{called(workload)}: {fault}"


def pods_are_restricted(objects: list[Object]) -> Iterator[str]:
    """Pod Security's restricted profile; also no token and no variables of services."""
    for workload in of_kind(objects, *WORKLOADS):
        pod = pod_of(workload)
        context = pod.get("securityContext", {})
        in_node = pod.get("hostNetwork") or pod.get("hostPID") or [*values_under(pod, "hostPath")]
        facts = {
            "run as a user of their own": context.get("runAsNonRoot") and context.get("runAsUser"),
            "have a seccomp profile": context.get("seccompProfile") == {"type": "RuntimeDefault"},
            "get no token": pod.get("automountServiceAccountToken") is False,
            "get no variables of services": pod.get("enableServiceLinks") is False,
            "stay out of their node": not in_node,
        }
        yield from (f"{called(workload)}: pods should {fact}" for fact in facts if not facts[fact])
    for namespace in of_kind(objects, "Namespace"):
        if namespace["metadata"]["labels"].get(_PROFILE) != "restricted":
            yield f"{called(namespace)} does not enforce the restricted profile"


def containers_are_restricted(objects: list[Object]) -> Iterator[str]:
    """No privileges, no capabilities, and a root file system that is only read."""
    wanted: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers_of(workload):
            context = container.get("securityContext", {})
            for key, value in wanted.items():
                if context.get(key) != value:
                    yield f"{called(workload)}: {key} of {container['name']} should be {value}"


def resources_are_bounded(objects: list[Object]) -> Iterator[str]:
    """Memory has a limit, all have requests, and of a GPU one gets what one asks for."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in containers_of(workload):
            name = f"{called(workload)}: {container['name']}"
            requests = container.get("resources", {}).get("requests", {})
            limits = container.get("resources", {}).get("limits", {})
            if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
                yield f"{name} needs requests for cpu and memory, and a limit of memory"
            for device in {key for key in (*requests, *limits) if "/" in key}:
                if requests.get(device) != limits.get(device):
                    yield f"{name} has other requests than limits of {device}"


def namespaces_deny_by_default(objects: list[Object]) -> Iterator[str]:
    """What no policy allows is forbidden."""
    closed = {
        namespace_of(one)
        for one in of_kind(objects, "NetworkPolicy")
        if one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    for namespace in {namespace_of(one) for one in of_kind(objects, *WORKLOADS)} - closed:
        yield f"the namespace {namespace} does not deny by default"


def policies_let_in_who_is_meant_to_come(objects: list[Object]) -> Iterator[str]:
    """The ports of Services and monitors are open to somebody."""
    for one in of_kind(objects, "Service", "PodMonitor"):
        wanted = [port["targetPort"] for port in one["spec"].get("ports", [])]
        wanted += [endpoint["port"] for endpoint in one["spec"].get("podMetricsEndpoints", [])]
        for workload in selected(objects, namespace_of(one), selector_of(one)):
            for port in wanted:
                if ports_of(workload).get(port, port) not in _open_ports(objects, workload):
                    yield f"no NetworkPolicy lets anybody reach {called(one)} on {port}"


def _open_ports(objects: list[Object], workload: Object) -> set[int]:
    """The ports of a workload on which some policy lets somebody in."""
    return {
        port["port"]
        for policy in of_kind(objects, "NetworkPolicy")
        if selector_of(policy).items() <= labels_of_pods(workload).items()
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    }


def secrets_are_referenced(objects: list[Object]) -> Iterator[str]:
    """Nothing secret stands in the manifests."""
    for one in of_kind(objects, "Secret"):
        yield f"{called(one)} is inlined; let operators make it, and reference it"
    for workload in of_kind(objects, *WORKLOADS):
        for variables in values_under(pod_of(workload), "env"):
            for variable in variables:
                if _SECRET_NAME.search(variable["name"]) and "value" in variable:
                    yield f"{called(workload)} has {variable['name']} inlined; use a secretKeyRef"


def disruptions_are_bounded(objects: list[Object]) -> Iterator[str]:
    """A budget lets nodes be drained one by one, and updates can go on."""
    budgets = of_kind(objects, "PodDisruptionBudget")
    for workload in of_kind(objects, "Deployment"):
        labels = labels_of_pods(workload).items()
        own = [one for one in budgets if selector_of(one).items() <= labels]
        if [one["spec"].get("maxUnavailable") for one in own] != [1]:
            yield f"{called(workload)} needs one PodDisruptionBudget, with maxUnavailable 1"
        update = workload["spec"]["strategy"]["rollingUpdate"]
        if update["maxSurge"] == update["maxUnavailable"] == 0:
            yield f"{called(workload)} can never be updated"


def all_are_probed(objects: list[Object]) -> Iterator[str]:
    """Starting, ready and alive are asked of every container that stays."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in pod_of(workload)["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{called(workload)}: {container['name']} has no {probe}"


def replicas_go_slowly(objects: list[Object]) -> Iterator[str]:
    """Scaling is by figures of ours, and slow downwards."""
    for scaler in of_kind(objects, "ScaledObject"):
        if any(one["type"] in ("cpu", "memory") for one in scaler["spec"]["triggers"]):
            yield f"{called(scaler)} scales by processor or memory, which say nothing of a verifier"
        window_s = next(values_under(scaler, "scaleDown"))["stabilizationWindowSeconds"]
        if window_s < LEAST_STABILISATION_S:
            yield f"{called(scaler)} takes replicas away after {window_s} s: sessions last longer"


RULES: Final = (
    images_are_pinned,
    pods_are_restricted,
    containers_are_restricted,
    resources_are_bounded,
    namespaces_deny_by_default,
    policies_let_in_who_is_meant_to_come,
    secrets_are_referenced,
    disruptions_are_bounded,
    all_are_probed,
    replicas_go_slowly,
)
