"""Every image of others under deploy/ is named by a digest that somebody has published."""

import re
from pathlib import Path

import pytest
import yaml
from deploy_images import OURS, fault_of_image
from deploy_objects import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
REAL = "7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b"


def kustomizations() -> list[Path]:
    return sorted(DEPLOY.rglob("kustomization.yaml"))


@pytest.mark.parametrize(
    ("image", "is_good"),
    [
        (f"docker.io/library/python:3.13-slim@sha256:{REAL}", True),
        (f"docker.io/library/python@sha256:{REAL}", True),
        ("docker.io/library/python:3.13-slim", False),
        (f"docker.io/library/python@sha256:{REAL[:-1]}", False),
        (f"docker.io/library/python@sha256:{'0' * 64}", False),
        (f"docker.io/library/python@sha256:{'deadbeef' * 8}", False),
        (f"{OURS}edge@sha256:{'0' * 64}", True),
        (f"{OURS}edge:1.0", False),
        (f"${{IMAGE}}@sha256:{REAL}", False),
    ],
)
def test_an_image_needs_a_digest_and_only_ours_may_have_a_placeholder(
    image: str, is_good: bool
) -> None:
    assert (fault_of_image(image) is None) == is_good


def test_dockerfiles_name_one_base_by_the_digest_of_a_published_image() -> None:
    named = [
        base
        for path in DOCKERFILES
        for base in re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", path.read_text(), re.MULTILINE)
    ]
    assert len(named) == 2
    assert len(set(named)) == 1
    assert fault_of_image(named[0]) is None


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_no_other_image_is_fetched_to_read_a_dockerfile(path: Path) -> None:
    assert not re.search(r"^#\s*syntax\s*=", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", kustomizations(), ids=lambda path: path.parent.name)
def test_kustomizations_give_every_image_a_digest(path: Path) -> None:
    for image in yaml.safe_load(path.read_text()).get("images", []):
        assert fault_of_image(f"{image['newName']}@{image['digest']}") is None
