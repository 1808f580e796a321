"""The Kubernetes objects that an overlay renders to, and the questions that checks ask of them.

Knows nothing of what is right or wrong about them.
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet")

Object = dict[str, Any]
"""One Kubernetes object, or a part of one."""


def overlays() -> list[str]:
    """The names of all overlays."""
    return sorted(path.name for path in (KUBERNETES / "overlays").iterdir())


def render(overlay: str) -> list[Object]:
    """What `kubectl kustomize` makes of an overlay.

    Raises:
        SystemExit: kubectl is missing, or refuses the overlay.
    """
    directory = KUBERNETES / "overlays" / overlay
    try:
        result = subprocess.run(
            ["kubectl", "kustomize", directory], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise SystemExit("kubectl is missing: install it (only 'kustomize' is used).") from None
    if result.returncode:
        raise SystemExit(f"kubectl refuses the overlay {overlay}: {result.stderr.strip()}")
    return [found for found in yaml.safe_load_all(result.stdout) if found]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    """The objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def called(one: Object) -> str:
    """An object as people speak of it."""
    return f"{one['kind']} {one['metadata']['name']}"


def namespace_of(one: Object) -> str:
    """The namespace that it is in."""
    return str(one["metadata"].get("namespace", ""))


def pod_of(workload: Object) -> Object:
    """The specification of a workload's pods."""
    pod: Object = workload["spec"]["template"]["spec"]
    return pod


def labels_of_pods(workload: Object) -> Mapping[str, str]:
    """The labels that a workload's pods bear."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers_of(workload: Object) -> list[Object]:
    """All containers of a workload's pods, the initial ones first."""
    pod = pod_of(workload)
    return [*pod.get("initContainers", []), *pod["containers"]]


def ports_of(workload: Object) -> dict[str, int]:
    """The ports of a workload's containers by name."""
    return {
        port["name"]: port["containerPort"]
        for container in pod_of(workload)["containers"]
        for port in container.get("ports", [])
    }


def selected(objects: list[Object], namespace: str, labels: Mapping[str, str]) -> list[Object]:
    """The workloads of a namespace whose pods bear all these labels."""
    return [
        one
        for one in of_kind(objects, *WORKLOADS)
        if namespace_of(one) == namespace and labels.items() <= labels_of_pods(one).items()
    ]


def selector_of(one: Object) -> Mapping[str, str]:
    """The labels by which an object selects pods."""
    selector = one["spec"].get("selector", one["spec"].get("podSelector"))
    labels: Mapping[str, str] = (
        selector if one["kind"] == "Service" else selector.get("matchLabels", {})
    )
    return labels


def names_of(objects: list[Object], kind: str) -> set[str]:
    """The names of all objects of a kind."""
    return {one["metadata"]["name"] for one in of_kind(objects, kind)}


def values_under(value: object, wanted: str) -> Iterator[Any]:
    """Every value under a key in a tree of objects and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == wanted:
                yield inner
            yield from values_under(inner, wanted)
    elif isinstance(value, list):
        for inner in value:
            yield from values_under(inner, wanted)
