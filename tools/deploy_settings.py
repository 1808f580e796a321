"""Whether the objects of an overlay fit Outrider: its settings, its commands, its services.

Asks the code itself: the loader of settings, the commands, the names that health checks know.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
from deploy_objects import (
    WORKLOADS,
    Object,
    called,
    containers_of,
    of_kind,
    pod_of,
    ports_of,
    values_under,
)

from outrider.cli import root
from outrider_cloud.drain import FAREWELL_S
from outrider_cloud.handlers import SERVICE_NAME
from outrider_cloud.transport_security import refuse_unsafe
from outrider_common.config import Settings
from outrider_common.config_loading import load_settings
from outrider_common.errors import ConfigError
from outrider_edge.fleet.broker import require_broker

EVERYWHERE: Final = "0.0.0.0"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
FIELDS: Final = {"spec.nodeName": "node-1"}
"""What a pod could be told of itself."""


def settings_can_be_loaded(objects: list[Object]) -> Iterator[str]:
    """The files and variables of each container are settings that our loader takes."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in _ours(workload):
            try:
                settings_of(objects, workload, container)
            except ConfigError as error:
                yield f"{called(workload)}: {error}"


def ports_are_those_of_the_settings(objects: list[Object]) -> Iterator[str]:
    """What listens and what is said to listen are the same, and others can reach it."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in main_containers(workload):
            listening = _listening(container, settings_of(objects, workload, container))
            if ports_of(workload) != listening:
                yield (
                    f"{called(workload)} says that it has the ports {ports_of(workload)}, but by "
                    f"its settings others reach {listening}"
                )


def verifiers_start(objects: list[Object]) -> Iterator[str]:
    """What others can reach is guarded, or openly is not: else it would not start."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in _ours(workload):
            if container["args"][0] != "verifier":
                continue
            try:
                refuse_unsafe(settings_of(objects, workload, container).verifier)
            except ConfigError as error:
                yield f"{called(workload)}: {error}"


def commands_exist(objects: list[Object]) -> Iterator[str]:
    """The arguments of our images are a command of ours with its options."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in _ours(workload):
            words = container["args"]
            if fault := fault_of_command(words):
                yield f"{called(workload)}: 'outrider {' '.join(words)}' cannot run: {fault}"


def probes_ask_for_what_is_served(objects: list[Object]) -> Iterator[str]:
    """gRPC probes and routes name services that the verifier has."""
    for workload in of_kind(objects, *WORKLOADS):
        for probe in values_under(pod_of(workload), "grpc"):
            if probe.get("service", "") not in ("", SERVICE_NAME):
                yield f"{called(workload)} is probed for {probe['service']}, not for {SERVICE_NAME}"
    for route in of_kind(objects, "GRPCRoute"):
        for method in values_under(route, "method"):
            if method["service"] not in (SERVICE_NAME, HEALTH_SERVICE):
                yield f"{called(route)} matches {method['service']}, not {SERVICE_NAME}"


def there_is_time_to_drain(objects: list[Object]) -> Iterator[str]:
    """Pods are not killed before they have drained, and may load for some minutes."""
    for workload in of_kind(objects, *WORKLOADS):
        pod = pod_of(workload)
        for container in main_containers(workload):
            grace_s = pod.get("terminationGracePeriodSeconds", 30)
            pre_stop_s = sum(one["seconds"] for one in values_under(container, "sleep"))
            needed_s = pre_stop_s + _drain_s(objects, workload, container)
            if grace_s <= needed_s:
                yield f"{called(workload)} is killed after {grace_s} s but drains {needed_s:.0f} s"
            startup = container.get("startupProbe", {})
            if startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3) < 120:
                yield f"{called(workload)} has too little time to load its model"


def rows_leave_room_to_scale(objects: list[Object]) -> Iterator[str]:
    """Replicas are added before passes are full."""
    for scaler in of_kind(objects, "ScaledObject"):
        (workload,) = of_kind(objects, "Deployment")
        settings = settings_of(objects, workload, pod_of(workload)["containers"][0])
        most = settings.verifier.rows_per_pass
        for trigger in scaler["spec"]["triggers"]:
            threshold = trigger["metadata"]["threshold"]
            if trigger["name"] == "rows-per-pass" and float(threshold) >= most:
                yield f"{called(scaler)} waits for {threshold} rows a pass, of {most} at most"


def files_of_settings_are_mounted(objects: list[Object]) -> Iterator[str]:
    """Certificates, keys, tokens and passwords that settings name are where a volume is."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in main_containers(workload):
            mounts = [Path(one["mountPath"]) for one in container["volumeMounts"]]
            for path in files_of(settings_of(objects, workload, container)):
                if not {path, *path.parents} & set(mounts):
                    yield f"{called(workload)} is to read {path}, where no volume is mounted"


def brokers_are_services(objects: list[Object]) -> Iterator[str]:
    """The broker of a fleet is a Service beside it, on a port that it has, or has a full name."""
    ports = {
        (one["metadata"]["name"], port["port"])
        for one in of_kind(objects, "Service")
        for port in one["spec"]["ports"]
    }
    for workload in of_kind(objects, *WORKLOADS):
        for container in main_containers(workload):
            fleet = settings_of(objects, workload, container).fleet
            if fleet.broker is None:
                continue
            address = require_broker(fleet)
            if "." not in address.host and (address.host, address.port) not in ports:
                yield f"{called(workload)} reports to {fleet.broker}, which is not there"


def edges_are_let_out_to_their_verifier(objects: list[Object]) -> Iterator[str]:
    """Some policy lets an edge call anybody on the port of its verifier."""
    for workload in of_kind(objects, *WORKLOADS):
        for container in main_containers(workload):
            verifier = settings_of(objects, workload, container).edge.verifier
            if container["args"][0] == "edge" and _port(verifier) not in _ways_out(objects):
                yield f"{called(workload)} is to call {verifier}, but no NetworkPolicy lets it out"


def devices_are_called_as_their_nodes(objects: list[Object]) -> Iterator[str]:
    """Each pod of a fleet has a name of its own, which stays when it is replaced."""
    for workload in of_kind(objects, "DaemonSet"):
        for container in main_containers(workload):
            fleet = settings_of(objects, workload, container).fleet
            names = {fleet.device_id, fleet.username}
            if fleet.broker is not None and names != {FIELDS["spec.nodeName"]}:
                yield (
                    f"{called(workload)}: fleet.device_id and fleet.username are to be the name "
                    f"of the node (spec.nodeName), not {fleet.device_id} and {fleet.username}"
                )


def settings_of(objects: list[Object], workload: Object, container: Object) -> Settings:
    """The settings that a container's files and variables give.

    Raises:
        ConfigError: they cannot be loaded.
    """
    variables = {one["name"]: _value_of(one) for one in container.get("env", [])}
    ours = {name: value for name, value in variables.items() if name.startswith("OUTRIDER_")}
    path = ours.pop("OUTRIDER_CONFIG", None)
    if path is None:
        return load_settings(environment=ours).settings
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "outrider.toml")
        file.write_text(_mounted_file(objects, workload, container, path))
        return load_settings(file, ours).settings


def _value_of(variable: Object) -> str:
    """What a variable of a container is set to; where the cluster says it, what it could say."""
    field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
    return str(variable.get("value", FIELDS.get(field, "")))


def main_containers(workload: Object) -> list[Object]:
    """The containers of a workload that run Outrider for as long as the pod is there."""
    return [one for one in _ours(workload) if one in pod_of(workload)["containers"]]


def files_of(settings: Settings) -> list[Path]:
    """The files that settings of what listens and calls name."""
    sections = (settings.verifier, settings.edge, settings.fleet)
    values = (getattr(section, name) for section in sections for name in type(section).model_fields)
    return [value for value in values if isinstance(value, Path)]


def fault_of_command(arguments: Sequence[str]) -> str | None:
    """What is wrong with arguments of the `outrider` command; None if nothing is."""
    command: click.Command = root
    words = list(arguments)
    context = click.Context(root)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0]) if words else None
        if found is None:
            return f"there is no '{words[0] if words else ''}'"
        command, words = found, words[1:]
    try:
        command.make_context("outrider", words, resilient_parsing=False)
    except click.ClickException as error:
        return error.format_message()
    return None


def _ours(workload: Object) -> list[Object]:
    """The containers of a workload that run Outrider."""
    return [one for one in containers_of(workload) if "/outrider-" in one["image"]]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _ways_out(objects: list[Object]) -> set[int]:
    """The ports on which some policy lets pods call anybody."""
    return {
        port["port"]
        for policy in of_kind(objects, "NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        if "to" not in rule
        for port in rule["ports"]
    }


def _mounted_file(objects: list[Object], workload: Object, container: Object, path: str) -> str:
    """The text of a file that a config map puts into a container."""
    volumes = {one["name"]: one for one in pod_of(workload)["volumes"]}
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(objects, "ConfigMap")}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        if "configMap" in volume and str(Path(path).parent) == mount["mountPath"]:
            data = maps.get(volume["configMap"]["name"], {})
            if Path(path).name in data:
                return str(data[Path(path).name])
    raise ConfigError(f"OUTRIDER_CONFIG names {path}, which no config map puts there.")


def _listening(container: Object, settings: Settings) -> dict[str, int | None]:
    """The ports on which others reach a container's process, by the names that we give."""
    verifier, daemon = settings.verifier, settings.daemon
    if container["args"][0] == "edge":
        return {"http": daemon.port} if daemon.host == EVERYWHERE else {}
    ports: dict[str, int | None] = {}
    if verifier.host == EVERYWHERE:
        ports |= {"grpc": verifier.port, "health": verifier.health_port}
    if verifier.metrics_host == EVERYWHERE:
        ports |= {"metrics": verifier.metrics_port}
    return {name: port for name, port in ports.items() if port is not None}


def _drain_s(objects: list[Object], workload: Object, container: Object) -> float:
    """How long a container's process may take to end."""
    settings = settings_of(objects, workload, container)
    if container["args"][0] == "edge":
        return settings.daemon.stop_grace_s
    return settings.verifier.drain_grace_s + FAREWELL_S


RULES: Final = (
    ports_are_those_of_the_settings,
    verifiers_start,
    commands_exist,
    probes_ask_for_what_is_served,
    there_is_time_to_drain,
    files_of_settings_are_mounted,
    brokers_are_services,
    edges_are_let_out_to_their_verifier,
    devices_are_called_as_their_nodes,
    rows_leave_room_to_scale,
)
