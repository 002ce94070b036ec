"""What browsers and simple tools expect of any server: CORS, HEAD where GET is, a front page, headers of our own."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.integration.gateway.test_native import scripted
from tests.integration.gateway.world import AUTHORIZATION, Edge, Engine, edge

pytestmark = pytest.mark.integration

PAGE = "https://app.example"
PATHS = [
    "/api/v1/jobs/ftjob-1",
    "/api/v1/jobs/ftjob-1:watch",
    "/api/v1/nothing",
    "/v1/chat/completions",
    "/v1/models",
    "/v1/nothing",
    "/healthz",
]


async def options(gateway: Edge, path: str, origin: str) -> aiohttp.ClientResponse:
    """A browser's question before a call; it never has a key."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return await gateway.client.options(path, headers={"Origin": origin, **asked})


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_is_answered_before_any_key_is_asked_for(tmp_path: Path, path: str) -> None:
    async with scripted(tmp_path, cors_origins=f"https://other.example, {PAGE}") as (gateway, training):
        allowed = await options(gateway, path, PAGE)
        assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert allowed.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
        assert "PATCH" in allowed.headers["Access-Control-Allow-Methods"]
        foreign = await options(gateway, path, "https://app.example.evil")
        assert "Access-Control-Allow-Origin" not in foreign.headers
        assert training.authenticator == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", [AUTHORIZATION, {}], ids=["key", "no key"])
async def test_an_allowed_page_may_read_every_answer(tmp_path: Path, path: str, key: dict[str, str]) -> None:
    """Errors and streams too: without the header a browser shows its page nothing but `network error`."""
    async with scripted(tmp_path, cors_origins=PAGE) as (gateway, _):
        for origin in (PAGE, "https://elsewhere.example"):
            async with gateway.client.get(path, headers={**key, "Origin": origin}) as response:
                allowed = response.headers.get("Access-Control-Allow-Origin")
                assert allowed == (PAGE if origin == PAGE else None), response.status
                assert response.headers["Vary"] == "Origin"  # no cache may give one page's answer to another


async def test_without_the_setting_no_page_may(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (gateway, _):
        for response in (await options(gateway, "/v1/models", PAGE), await gateway.client.get("/healthz")):
            assert not [name for name in response.headers if name.startswith(("Access-Control", "Vary"))]


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/docs", "/openapi.json", "/v1/models", "/api/v1/jobs/a", "/api/v1/jobs/a:watch"]
)
async def test_head_is_where_get_is(tmp_path: Path, path: str) -> None:
    async with scripted(tmp_path) as (gateway, _):
        asked = {"headers": AUTHORIZATION, "allow_redirects": False}
        async with gateway.client.get(path, **asked) as whole:
            status, content_type = whole.status, whole.content_type
        async with gateway.client.head(path, **asked) as head:
            assert (head.status, head.content_type, await head.read()) == (status, content_type, b"")
        async with gateway.client.head("/api/v1/jobs/gone", **asked) as missing:
            assert missing.status == 404


async def test_the_front_page_leads_to_the_documents(tmp_path: Path) -> None:
    async with edge(tmp_path, None) as gateway:
        async with gateway.client.get("/") as response:
            assert (response.status, response.url.path) == (200, "/docs")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_own_headers_are_not_passed_on(tmp_path: Path, stream: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Vary": "Origin", "Server": "uvicorn", "Access-Control-Allow-Origin": "*", "X-Of-Engine": "1"}
        return web.Response(text="data: [DONE]\n\n" if stream else "{}", headers=headers)

    async with edge(tmp_path, None, Engine(answer)) as gateway:
        body = {"model": "help", "messages": [], "stream": stream}
        async with gateway.client.post("/v1/chat/completions", json=body, headers=AUTHORIZATION) as response:
            assert response.status == 200
            assert response.headers["Server"] == "modelry"
            assert "Vary" not in response.headers and "Access-Control-Allow-Origin" not in response.headers
