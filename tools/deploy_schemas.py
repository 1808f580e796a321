"""Whether objects fit the published schemas of their kinds.

Kubernetes' own kinds by kubernetes-validate, custom resources by their npm packages, which are
installed into deploy/schemas the first time. Knows nothing of Outrider.
"""

import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import kubernetes_validate
from deploy_objects import ROOT, Object, called

KUBERNETES_VERSION: Final = "1.37"
SCHEMAS: Final = ROOT / "deploy" / "schemas"
_CORE_GROUPS: Final = ("networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io")


def faults_of_schemas(objects: list[Object]) -> Iterator[str]:
    """A sentence for each object, or part of one, that does not fit its schema."""
    for one in objects:
        if not is_custom(one):
            yield from _faults_of_core(one)
    custom = [one for one in objects if is_custom(one)]
    if custom:
        yield from _faults_of_custom(json.dumps(custom))


def is_custom(one: Object) -> bool:
    """Whether an object's kind is not Kubernetes' own."""
    group = one["apiVersion"].partition("/")[0]
    return "." in group and group not in _CORE_GROUPS


def install_schemas(directory: Path = SCHEMAS) -> None:
    """Install the schemas of custom resources, as pinned, unless they are there.

    Raises:
        SystemExit: npm is missing or fails.
    """
    installed = directory / "node_modules" / ".package-lock.json"
    lock = directory / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        result = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise SystemExit("npm is missing: the schemas of custom resources need it.") from None
    if result.returncode:
        raise SystemExit(f"npm could not install the schemas: {result.stderr.strip()}")


def _faults_of_core(one: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        path = "/".join(map(str, error.path))
        yield f"{called(one)}: {path}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{called(one)}: {error.message}"


@functools.cache
def _faults_of_custom(objects_as_json: str) -> tuple[str, ...]:
    result = subprocess.run(
        ["node", SCHEMAS / "validate.mjs"],
        input=objects_as_json,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(json.loads(result.stdout))
