"""After the tricks of clients, and after kills: what is billed and what is named as uncounted is all that was spent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
import pytest

from tests.chaos.gateway.books import Account, Books, kill_gateway, until
from tests.chaos.gateway.tricks import HONEST, MOST_TOKENS, ODD, TEXT, Trickster
from tests.stack import Journey, Stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(280)]

ROUNDS = 3


@pytest.fixture
def books(stack: Stack, journey: Journey) -> Books:
    """The books of the journey's deployment."""
    return Books(stack, journey.ids["deployment"])


@pytest.fixture
async def trickster(stack: Stack, journey: Journey) -> AsyncIterator[Trickster]:
    """A client with the least role."""
    key = stack.client.create_api_key(api_key={"name": f"tricks-{uuid.uuid4().hex[:8]}", "role": "INFERENCE"})
    timeout = aiohttp.ClientTimeout(total=60)
    headers = {"Authorization": f"Bearer {key.secret}"}
    async with aiohttp.ClientSession(stack.http, headers=headers, timeout=timeout) as session:
        yield Trickster(session, journey.resources["deployment"].name, key.id)


async def opened(books: Books, trickster: Trickster) -> Account:
    """An account that begins when the engine has just worked.

    One that stood still for a quarter of `unhealthy_seconds` gets a small call of serving's own, billed to nobody.
    """
    assert await trickster.ask() == 200
    return await books.open_account()


async def together(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """What calls return that are made at once."""
    return list(await asyncio.gather(*calls))


async def test_to_the_token_where_nothing_was_killed_and_no_stream_was_left(books: Books, trickster: Trickster) -> None:
    account = await opened(books, trickster)
    uncounted = books.uncounted()
    for _ in range(ROUNDS):
        assert set(await together(*(trickster.ask(**odd) for odd in ODD))) == {400}
        assert set(await together(*(trickster.ask(**honest) for honest in HONEST))) == {200}
        lists = {"prompt": ["Say 3", "Say 4 and 5"]}
        texts = [trickster.ask(TEXT, **how) for how in ({}, {"stream": True}, lists, {**lists, "stream": True})]
        assert set(await together(*texts)) == {200}
    counted, billed = await account.close()
    assert billed == counted
    assert counted.generated > 0
    assert books.uncounted() == uncounted


async def test_to_the_token_where_plain_calls_were_left(books: Books, trickster: Trickster) -> None:
    account = await opened(books, trickster)
    for _ in range(ROUNDS):
        await trickster.leave_a_plain_call(books)
        await books.rest()
    counted, billed = await account.close()
    assert billed == counted
    assert counted.generated == ROUNDS * MOST_TOKENS
    assert trickster.named(books) == {}


async def test_choices_are_billed_with_one_prompt_which_the_engine_reads_for_each(
    books: Books, trickster: Trickster
) -> None:
    account = await opened(books, trickster)
    asked = [trickster.ask(n=3, **how) for how in ({}, {"stream": True}, {"stream": True, "stream_interval": 4})]
    assert set(await together(*asked)) == {200}
    counted, billed = await account.close()
    assert counted == (3 * billed.prompt, billed.generated)


async def test_streams_that_were_left_are_billed_or_named(books: Books, trickster: Trickster) -> None:
    account = await opened(books, trickster)
    uncounted = books.uncounted()
    for _ in range(ROUNDS):
        await together(*(trickster.leave_a_stream() for _ in range(4)))
    counted, billed = await account.close()
    named = trickster.named(books)
    assert set(named) <= trickster.left and set(named.values()) <= {"left"}
    assert books.uncounted() - uncounted == len(named)
    assert 0 <= counted.generated - billed.generated <= len(named) * MOST_TOKENS
    assert billed.generated > 0
    assert billed.prompt == counted.prompt or named


async def test_to_the_token_where_the_gateway_was_killed_right_after_an_answer(
    stack: Stack, books: Books, trickster: Trickster
) -> None:
    account = await opened(books, trickster)
    for how in ({}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}):
        assert await trickster.ask(**how) == 200
        await kill_gateway(stack)
        await asyncio.to_thread(until, lambda: trickster.model in books.models())
    counted, billed = await account.close()
    assert billed == counted
    assert trickster.named(books) == {}


async def test_streams_that_a_kill_cut_are_named(stack: Stack, books: Books, trickster: Trickster) -> None:
    account = await opened(books, trickster)
    begun = asyncio.Barrier(5)

    async def kill() -> None:
        await begun.wait()
        await kill_gateway(stack)

    await together(kill(), *(trickster.stream_until_cut(begun) for _ in range(4)))
    await asyncio.to_thread(until, lambda: trickster.model in books.models())
    counted, billed = await account.close()
    named = trickster.named(books)
    assert named == dict.fromkeys(trickster.left, "killed")
    assert books.uncounted() == len(named) > 0
    assert 0 <= counted.generated - billed.generated <= len(named) * MOST_TOKENS
