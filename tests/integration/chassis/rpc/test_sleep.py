"""Calls between services around a sleep: the monotonic clock stands, the wall clock jumps, and nothing fails."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.chassis import auth, errors
from services.chassis.rpc import Connections, RpcServer
from tests.sleep import JUMPS, before_the_jump

pytestmark = pytest.mark.integration

_spec = importlib.util.spec_from_file_location("modelry_toy", Path(__file__).with_name("toy.py"))
assert _spec is not None and _spec.loader is not None
toy: Any = sys.modules.setdefault("modelry_toy", importlib.util.module_from_spec(_spec))
if not hasattr(toy, "Toy"):
    _spec.loader.exec_module(toy)

ISSUER = auth.TokenIssuer("s" * 40)


@dataclass
class Settings:
    """What the server and the connections read."""

    listen: str = "127.0.0.1:0"
    toys: str = ""

    def address_of(self, service: str) -> str:
        return {"toys": self.toys}[service]


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async def echo(request: Any, context: Any) -> Any:
        return request

    server = RpcServer(Settings(), ISSUER)
    server.add(toy.Toys(echo), toy.add, toy.SERVICE)
    port = await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0.1)


@pytest.mark.parametrize("seconds", JUMPS)
@pytest.mark.parametrize("method", ["Make", "Watch"])
async def test_a_call_after_a_sleep_carries_a_token_that_is_good(address: str, method: str, seconds: float) -> None:
    connections = Connections(Settings(toys=address), ISSUER, "training")
    with before_the_jump(seconds):
        before = connections.metadata("proj-1")
    after = connections.metadata("proj-1")
    assert before != after
    principal = ISSUER.verify(dict(after)["authorization"].removeprefix("Bearer "))
    assert (principal.project, principal.subject) == ("proj-1", "training")
    answers = await toy.call(connections.channel("toys", toy.FILE), method, toy.Toy(name="a"), metadata=after)
    assert answers[-1].name == "a"
    await connections.close()


@pytest.mark.parametrize("seconds", JUMPS)
@pytest.mark.parametrize("method", ["Make", "Watch"])
async def test_a_call_that_a_sleep_fell_into_is_made_once_more(address: str, method: str, seconds: float) -> None:
    connections = Connections(Settings(toys=address), ISSUER, "training")
    with before_the_jump(seconds):
        metadata = connections.metadata("proj-1")
    answers = await toy.call(connections.channel("toys", toy.FILE), method, toy.Toy(name="a"), metadata=metadata)
    assert answers[-1].name == "a"
    await connections.close()


@pytest.mark.parametrize("method", ["Make", "Watch"])
async def test_a_peer_that_believes_no_token_is_unavailable(address: str, method: str) -> None:
    connections = Connections(Settings(toys=address), auth.TokenIssuer("t" * 40), "training")
    metadata = connections.metadata("proj-1")
    with pytest.raises(errors.Unavailable):
        await toy.call(connections.channel("toys", toy.FILE), method, toy.Toy(name="a"), metadata=metadata)
    await connections.close()
