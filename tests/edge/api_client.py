"""The HTTP API in memory, over a runtime in memory."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.http_app import build_app
from outrider_edge.serving import Serving

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HI: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}


def a_serving(runtime: ServingRuntime | None, **settings: Any) -> Serving:
    serving = Serving(DaemonSettings(**settings), SamplingSettings())
    serving.runtime = runtime
    return serving


@asynccontextmanager
async def a_client(serving: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(build_app(serving), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7412") as client:
        yield client


def events_of(body: str) -> list[Any]:
    """The documents of a stream of server-sent events; the word that ends it as it is."""
    datas = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def text_of(events: list[Any], index: int = 0) -> str:
    choices = [choice for event in events[:-1] for choice in event.get("choices", [])]
    own = [choice for choice in choices if choice["index"] == index]
    return "".join(
        choice.get("text") or choice.get("delta", {}).get("content", "") for choice in own
    )


def trace_of(events: list[Any], index: int = 0) -> list[Any]:
    """What a stream told of one choice beside its text."""
    parts = [event["outrider"] for event in events[:-1] if "outrider" in event]
    own = (part.get("events", []) for part in parts if part.get("index") == index)
    return [event for said in own for event in said]


def error_of(response: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error
