"""Credentials, projects, keys, checkpoints and deployments."""

from __future__ import annotations

import inspect
import json

import pytest

from services.chassis.errors import Invalid, ModelryError, NotFound
from services.clients import fakes
from services.clients.credentials import open_location
from tests.contract.clients.world import BUCKET, OTHER, PROJECT, World

pytestmark = [pytest.mark.contract, pytest.mark.asyncio(loop_scope="session")]


async def test_the_installations_own_store_is_opened_by_every_project(world: World) -> None:
    for credential in ("", "builtin"):
        opened = await world.credentials.resolve(PROJECT, credential, "")
        assert opened.bucket and opened.access.endpoint.startswith("http://")
        assert await world.credentials.resolve(PROJECT, credential, opened.bucket) == opened


@pytest.mark.parametrize("own", ["", "theirs"])
async def test_a_credential_opens_the_bucket_that_it_is_for(world: World, name: str, own: str) -> None:
    await world.add_credential(name, own)
    asked = own or BUCKET
    assert (await world.credentials.resolve(PROJECT, name, asked)).bucket == asked
    with pytest.raises(Invalid) as refused:
        await world.credentials.resolve(PROJECT, name, "another" if own else "")
    assert (refused.value.field, refused.value.reason) == ("bucket", "WRONG_BUCKET" if own else "REQUIRED_FIELD")
    if own:
        assert (await world.credentials.resolve(PROJECT, name, "")).bucket == own
    with pytest.raises(NotFound):
        await world.credentials.resolve(OTHER, name, asked)


async def test_a_location_that_cannot_be_opened_names_credential_or_bucket(world: World, name: str) -> None:
    await world.add_credential(name)
    for credential, field in (("none", "credential"), (name, "bucket")):
        for path, expected in (("job.output", f"job.output.{field}"), ("", field)):
            with pytest.raises(ModelryError) as refused:
                await open_location(world.credentials, PROJECT, credential, "", path)
            error = refused.value
            assert (error.field if isinstance(error, Invalid) else error.metadata["field"]) == expected
            assert error.message.startswith(f"{expected}: ") and f": {expected}: " not in error.message


async def test_a_project_is_found_by_name_and_id(world: World) -> None:
    for reference in ("default", PROJECT):
        found = await world.credentials.project(PROJECT, reference)
        assert (found.id, found.name) == (PROJECT, "default")
    with pytest.raises(NotFound):
        await world.credentials.project(PROJECT, "none")


async def test_the_key_of_a_deployment_is_shown_once(world: World, name: str) -> None:
    made = await world.credentials.issue_deployment_key(PROJECT, name, [name], name)
    assert made.secret.startswith("mk-") and made.secret not in repr(made)
    again = await world.credentials.issue_deployment_key(PROJECT, name, [name], name)
    assert (again.id, again.secret) == (made.id, "")
    for deployment_id in (name, name, "dep-none"):
        await world.credentials.revoke_deployment_key(PROJECT, deployment_id)


async def test_a_checkpoint_says_where_its_adapter_is(world: World, name: str) -> None:
    await world.add_checkpoint(f"ftckpt_{name}")
    found = await world.training.checkpoint(PROJECT, f"ftckpt_{name}")
    assert (found.base_model_version_id, found.job_id, found.step) == ("mv-base", f"ftjob-ftckpt_{name}", 3)
    assert (found.adapter.credential, found.adapter.bucket) == ("mine", "own")
    assert found.adapter.prefix == f"jobs/ftckpt_{name}/adapter"
    listed = json.loads(found.adapter.manifest_json)["files"]
    assert sorted(file["path"] for file in listed) == ["adapter_config.json", "adapter_model.safetensors"]
    for project, checkpoint in ((OTHER, f"ftckpt_{name}"), (PROJECT, "ftckpt_none")):
        with pytest.raises(NotFound):
            await world.training.checkpoint(project, checkpoint)


async def test_a_deployment_says_what_it_serves(world: World, name: str) -> None:
    deployment_id = await world.add_deployment(name)
    for reference in (deployment_id, name):
        found = await world.serving.deployment(PROJECT, reference)
        assert (found.deployment_id, found.model_version_id) == (deployment_id, "mv-base")
    for project, reference in ((OTHER, name), (PROJECT, "none")):
        with pytest.raises(NotFound):
            await world.serving.deployment(project, reference)


@pytest.mark.parametrize(
    "fake", [one for one in vars(fakes).values() if isinstance(one, type) and "Fake" in one.__name__]
)
async def test_a_fake_has_every_method_of_its_client(fake: type) -> None:
    """One that it does not override would reach for a connection; what calls only other methods may be inherited."""
    client = next((one for one in fake.__mro__ if one.__name__.endswith("Client")), None)
    asked = inspect.getmembers(client, inspect.iscoroutinefunction) if client else []
    reaching = [(name, method) for name, method in asked if "self._" in inspect.getsource(method)]
    assert [name for name, method in reaching if getattr(fake, name) is method] == []
