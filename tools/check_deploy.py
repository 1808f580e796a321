"""Check everything under deploy/ that can be checked without a cluster.

Renders every overlay, holds the objects against schemas and rules, and has promtool check and try
the alerts and hadolint read the Dockerfiles. Prints a sentence for each fault.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import deploy_hardening
import deploy_references
import deploy_settings
import yaml
from deploy_objects import KUBERNETES, ROOT, Object, overlays, render
from deploy_schemas import faults_of_schemas, install_schemas

RULES: Final = (*deploy_references.RULES, *deploy_hardening.RULES)
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
IMAGES: Final = ROOT / "deploy" / "images"


def main() -> int:
    """Check all; the exit status."""
    install_schemas()
    faults = [*faults_of_overlays(), *faults_of_alerts(), *faults_of_images()]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def faults_of_overlays() -> Iterator[str]:
    """What is wrong with each overlay."""
    for overlay in overlays():
        for fault in faults_of_objects(render(overlay)):
            yield f"{overlay}: {fault}"


def faults_of_objects(objects: list[Object]) -> list[str]:
    """What is wrong with the objects of one overlay."""
    faults = list(faults_of_schemas(objects))  # rules rely on the form of objects ...
    faults = faults or [fault for rule in RULES for fault in rule(objects)]
    faults = faults or list(deploy_settings.settings_can_be_loaded(objects))  # ... and on settings
    return faults or [fault for rule in deploy_settings.RULES for fault in rule(objects)]


def faults_of_alerts() -> Iterator[str]:
    """What promtool finds, and whether the operator is given the same alerts."""
    rules = PROMETHEUS / "outrider-rules.yaml"
    yield from _said_by("promtool", "check", "rules", rules)
    yield from _said_by("promtool", "test", "rules", PROMETHEUS / "outrider-rules-test.yaml")
    for_operator = KUBERNETES / "components" / "monitoring" / "prometheus-rule.yaml"
    if yaml.safe_load(for_operator.read_text())["spec"] != yaml.safe_load(rules.read_text()):
        yield f"{for_operator} does not hold the groups of {rules}: copy them."


def faults_of_images() -> Iterator[str]:
    """What hadolint finds in the Dockerfiles."""
    for dockerfile in sorted(IMAGES.glob("*.Dockerfile")):
        hadolint = Path(sys.executable).with_name("hadolint")
        yield from _said_by(hadolint, "--config", IMAGES / "hadolint.yaml", dockerfile)


def _said_by(*command: str | Path) -> Sequence[str]:
    """The output of a program that fails, as one fault."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is missing: 'make programs' installs what is.") from None
    return [f"{result.stdout}{result.stderr}".strip()] if result.returncode else []


if __name__ == "__main__":
    sys.exit(main())
