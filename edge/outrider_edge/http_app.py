"""The HTTP API of the edge daemon as an ASGI application: its routes, and errors in one form.

Thin: what a request means is in `openai_requests`, what is done for it in `generation_endpoint`.
"""

import time
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from outrider_common.errors import OutriderError, UnknownModelError
from outrider_edge.browser_guard import BrowserGuard
from outrider_edge.daemon_metrics import CONTENT_TYPE
from outrider_edge.daemon_status import status_document
from outrider_edge.generation_endpoint import GenerationEndpoint
from outrider_edge.json_fields import shown
from outrider_edge.openai_errors import BadRequestError, error_answer
from outrider_edge.openai_requests import parse_chat_request, parse_completion_request
from outrider_edge.openai_responses import ChatForm, CompletionForm, Json, model_card
from outrider_edge.serving import Serving
from outrider_edge.web_page import page_routes


def build_app(serving: Serving) -> Starlette:
    """The application over the state of one daemon."""
    pages = _Pages(serving)
    chat = GenerationEndpoint(
        "/v1/chat/completions", "chatcmpl", parse_chat_request, ChatForm, serving
    )
    completions = GenerationEndpoint(
        "/v1/completions", "cmpl", parse_completion_request, CompletionForm, serving
    )
    settings = serving.settings
    return Starlette(
        routes=[
            Route(chat.route, chat, methods=["POST"]),
            Route(completions.route, completions, methods=["POST"]),
            Route("/v1/models", pages.models),
            Route("/v1/models/{model:path}", pages.model),
            Route("/health", pages.health),
            Route("/ready", pages.ready),
            Route("/status", pages.status),
            Route("/metrics", pages.metrics),
            *page_routes(),
        ],
        middleware=[
            Middleware(
                BrowserGuard,
                allowed_hosts=(*settings.allowed_hosts, settings.host),
                allowed_origins=settings.allowed_origins,
            )
        ],
        exception_handlers={
            HTTPException: _say_http_error,
            OutriderError: _say_error,
            Exception: _say_error,
        },
    )


class _Pages:
    """The endpoints that only tell."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._created = int(time.time())

    async def models(self, _request: Request) -> Response:
        """The targets that are there."""
        return JSONResponse({"object": "list", "data": list(self._cards().values())})

    async def model(self, request: Request) -> Response:
        """A target, asked for by its name."""
        name, cards = request.path_params["model"], self._cards()
        if name not in cards:
            raise UnknownModelError(
                f"There is no model {shown(name)} here; /v1/models says which there are."
            )
        return JSONResponse(cards[name])

    def _cards(self) -> dict[str, Json]:
        infos = self._serving.require_runtime().infos
        return {name: model_card(info, self._created) for name, info in infos.items()}

    async def health(self, _request: Request) -> Response:
        """The daemon runs, whatever the verifier does."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """A request would be answered: the verifier was asked just now."""
        runtime = self._serving.require_runtime()
        await runtime.link.model_info()
        return JSONResponse({"status": "ready", "model": runtime.info.model})

    async def status(self, _request: Request) -> Response:
        """Who the daemon is, how it is, and its figures; the verifier is not asked."""
        return JSONResponse(status_document(self._serving))

    async def metrics(self, _request: Request) -> Response:
        """Figures for Prometheus."""
        return Response(self._serving.metrics.page(), headers={"content-type": CONTENT_TYPE})


async def _say_error(_request: Request, error: Exception) -> Response:
    answer = error_answer(error)
    return JSONResponse(answer.body, answer.status, answer.headers)


async def _say_http_error(request: Request, error: Exception) -> Response:
    """A route that is not there, or another method than it has."""
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    if error.status_code == 405:
        sentence = f"{request.url.path} takes {headers.get('allow', 'another method')}, not "
        sentence += f"{request.method}; use that."
    else:
        sentence = f"There is no {shown(request.url.path)} here; docs/edge-daemon.md lists what is."
    said = BadRequestError(sentence, http_status=error.status_code)
    return JSONResponse(error_answer(said).body, error.status_code, headers)
