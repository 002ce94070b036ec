"""Publishing a checkpoint: what is refused, and repeats. The copy itself is tested in tests/integration/registry."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.chassis.errors import AlreadyExists, Invalid, NotFound, Unavailable, WrongState
from services.chassis.locations import StoredFiles
from services.clients.fakes import FakeCredentials
from services.registry.domain import Kind, Origin, State
from services.registry.operations import models, publish, versions
from services.registry.operations.context import ServiceContext
from tests.unit.registry.made import (
    MANIFEST,
    NOW,
    OTHER,
    PROJECT,
    a_publication,
    begin_publication,
    complete,
    create_model,
    happenings,
    import_version,
    preset,
    ready_model,
)

pytestmark = pytest.mark.unit


async def test_a_published_checkpoint_is_an_adapter_of_its_base_with_its_origin(context: ServiceContext) -> None:
    base = await ready_model(context)
    version = await begin_publication(context, a_publication(base, suffix="Help Desk"))
    assert (version.label, version.state, version.kind) == ("helper@1", State.PREPARING, Kind.ADAPTER)
    assert version.fine_tuned_name == "ft:own:support:help-desk:23456789"
    assert (version.base_id, version.lora_rank, version.checkpoint_step) == (base.id, 8, 40)
    assert (version.architecture, version.chat_fingerprint) == (base.architecture, base.chat_fingerprint)
    assert (await models.get_model(PROJECT, "helper", context)).origin is Origin.TUNED
    assert await happenings(context, version.id) == ["modelVersion.created"]


async def test_a_checkpoint_in_between_says_its_step_and_its_own_chat_form(context: ServiceContext) -> None:
    base = await ready_model(context)
    wish = a_publication(base, final=False, chat_fingerprint="chat-2")
    version = await begin_publication(context, wish)
    assert version.fine_tuned_name == "ft:own:support:helper:23456789:ckpt-step-40"
    assert version.chat_fingerprint == "chat-2"


async def test_the_repeat_of_a_publication_that_was_cut_off_goes_on_with_its_version(context: ServiceContext) -> None:
    wish = a_publication(await ready_model(context))
    first = await begin_publication(context, wish)
    assert await begin_publication(context, wish) == first
    ready = await complete(context, first)
    assert await publish.register_checkpoint(wish, context, NOW) == ready
    assert (await models.get_model(PROJECT, "helper", context)).last_number == 1


async def test_another_request_or_checkpoint_makes_the_next_version(context: ServiceContext) -> None:
    base = await ready_model(context)
    numbers = [
        (await begin_publication(context, a_publication(base, **change))).number
        for change in ({}, {"request_id": "r-1"}, {"checkpoint_id": "ftckpt_2"})
    ]
    assert numbers == [1, 2, 3]


async def test_a_request_id_is_not_used_for_another_publication(context: ServiceContext) -> None:
    base = await ready_model(context)
    await begin_publication(context, a_publication(base, request_id="r-1"))
    with pytest.raises(AlreadyExists) as caught:
        await publish.register_checkpoint(a_publication(base, request_id="r-1", digest="other"), context, NOW)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_checkpoint_is_published_anew_after_its_version_was_deleted(context: ServiceContext) -> None:
    wish = a_publication(await ready_model(context))
    for number in (1, 2, 3):
        version = await begin_publication(context, wish)
        assert version.number == number
        assert await begin_publication(context, wish) == version
        await versions.delete_version(PROJECT, "helper", str(number), context, NOW)


async def test_a_request_id_whose_version_was_deleted_makes_no_second_one(context: ServiceContext) -> None:
    wish = a_publication(await ready_model(context), request_id="r-1")
    await begin_publication(context, wish)
    await versions.delete_version(PROJECT, "helper", "1", context, NOW)
    with pytest.raises(NotFound):
        await publish.register_checkpoint(wish, context, NOW)


async def test_only_a_ready_full_version_is_a_base(context: ServiceContext) -> None:
    base = await ready_model(context)
    adapter = await complete(context, await begin_publication(context, a_publication(base)))
    preparing = await import_version(context)
    for wrong in (adapter, preparing, await preset(context)):
        with pytest.raises(WrongState, match="tune"):
            await publish.register_checkpoint(a_publication(wrong, checkpoint_id="ftckpt_2"), context, NOW)
    with pytest.raises(NotFound):
        await publish.register_checkpoint(a_publication(base, project=OTHER), context, NOW)


async def test_the_name_of_a_preset_or_of_an_imported_model_is_refused(context: ServiceContext) -> None:
    base = await ready_model(context)
    for name, reason in (("small", "PRESET_NAME"), ("own", "ALREADY_EXISTS")):
        with pytest.raises(AlreadyExists) as caught:
            await publish.register_checkpoint(a_publication(base, model_name=name), context, NOW)
        assert (caught.value.reason, caught.value.metadata["field"]) == (reason, "model_name")
    for name in ("mv-1", "A name"):
        with pytest.raises(Invalid):
            await publish.register_checkpoint(a_publication(base, model_name=name), context, NOW)


async def test_a_model_without_a_version_takes_published_ones(context: ServiceContext) -> None:
    base = await ready_model(context)
    await create_model(context, "helper")
    assert (await begin_publication(context, a_publication(base))).label == "helper@1"


async def test_a_manifest_that_cannot_be_read_is_refused_before_anything_is_written(context: ServiceContext) -> None:
    base = await ready_model(context)
    broken = MANIFEST.to_json() | {"digest": "0" * 64}
    for text in ("no JSON", "[]", "{}", json.dumps(broken)):
        with pytest.raises(Invalid):
            files = StoredFiles("", "jobs/1", text)
            await publish.register_checkpoint(a_publication(base, files=files), context, NOW)
    with pytest.raises(NotFound):
        await models.get_model(PROJECT, "helper", context)


async def test_a_place_whose_credential_is_unknown_is_refused(context: ServiceContext) -> None:
    wish = a_publication(await ready_model(context))
    with pytest.raises(NotFound, match="nobody"):
        files = replace(wish.files, credential="nobody", bucket="b")
        await publish.register_checkpoint(replace(wish, files=files), context, NOW)


async def test_the_project_of_a_publication_is_named_by_access(
    context: ServiceContext, credentials: FakeCredentials
) -> None:
    wish = a_publication(await ready_model(context))
    assert ":support:" in (await begin_publication(context, wish)).fine_tuned_name
    credentials.away = {"project"}
    with pytest.raises(Unavailable):
        await publish.register_checkpoint(wish, context, NOW)
