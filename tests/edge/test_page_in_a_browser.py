"""The files of the daemon's page over HTTP: types, headers, and nothing beside them."""

import re

import pytest
from api_client import a_client, a_serving
from fake_runtime import FakeRuntime

from outrider_edge.web_page import DIRECTORY, page_files

INDEX = page_files()["index.html"].body.decode()
LOADED = re.findall(r'(?:src|href)="(/[^"]*)"', INDEX)


def imports_of(script: str) -> set[str]:
    return set(re.findall(r'from "\./([^"]+)"', (DIRECTORY / script).read_text(encoding="utf-8")))


async def test_the_page_is_served_whether_there_is_a_verifier_or_not() -> None:
    async with a_client(a_serving(None)) as client:
        response = await client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Outrider</title>" in response.text


async def test_everything_that_the_page_names_is_there() -> None:
    assert set(LOADED) >= {"/web/style.css", "/web/main.js", "/web/icon.svg"}
    scripts = {name for name in page_files() if name.endswith(".js")}
    assert set().union(*map(imports_of, scripts)) | {"main.js"} == scripts
    async with a_client(a_serving(FakeRuntime())) as client:
        for path in [*LOADED, *(f"/web/{name}" for name in scripts)]:
            response = await client.get(path)
            assert response.status_code == 200, path
            assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/web/style.css"])
async def test_the_page_may_load_nothing_from_elsewhere_and_be_framed_by_nobody(path: str) -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        policy = (await client.get(path)).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy


def test_no_script_or_style_stands_in_the_document() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", INDEX)
    for path in DIRECTORY.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|innerHTML", text), path.name


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        first = await client.get("/web/main.js")
        tag = first.headers["etag"]
        again = await client.get("/web/main.js", headers={"if-none-match": tag})
        other = await client.get("/web/main.js", headers={"if-none-match": '"older"'})
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content) == (304, b"")
    assert other.content == first.content == (DIRECTORY / "main.js").read_bytes()


@pytest.mark.parametrize(
    "path", ["/web/", "/web/none.js", "/web/..%2fweb_page.py", "/web/%2e%2e/web_page.py", "/web"]
)
async def test_nothing_else_can_be_had(path: str) -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert "docs/edge-daemon.md" in response.json()["error"]["message"]


async def test_strange_names_get_no_page() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        assert (await client.get("/", headers={"host": "evil.example"})).status_code == 403
