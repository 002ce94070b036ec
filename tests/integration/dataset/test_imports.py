"""Imports through the real service: what comes out, what is refused, and that nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import io
import json
import time
from typing import Any

import nats as nats_py
import pyarrow.parquet as pq
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from modelry.dataset.v1 import dataset_pb2 as pb
from modelry.dataset.v1 import internal_pb2
from services.chassis.errors import AlreadyExists, Conflict, Invalid, NotFound, WrongState
from services.chassis.objects import Manifest
from tests.integration.dataset.world import OTHER, World

pytestmark = pytest.mark.integration

ROWS = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(30)]
BAD = {"instruction": "a", "output": 7}
States = pb.DatasetVersion


def get(version: pb.DatasetVersion) -> Any:
    return pb.GetDatasetVersionRequest(dataset=version.dataset_id, version=version.id)


async def test_a_good_import_publishes_itself_and_can_be_resolved(world: World) -> None:
    version = await world.imported("support", world.put("train.jsonl", ROWS))
    assert version.state == States.PUBLISHED
    assert (version.number, version.dataset_name, version.row_count, version.bad_row_count) == (1, "support", 30, 0)
    assert version.format == States.ALPACA
    assert version.statistics.turns_by_role == {"user": 30, "assistant": 30}
    assert version.source_identity["sha256"] and version.source_identity["size"] == str(version.bytes_total)
    for reference in ("support", "support@1", "support@latest", version.id):
        request = internal_pb2.ResolveDatasetVersionRequest(reference=reference)
        resolved = await world.ask("ResolveDatasetVersion", request)
        assert (resolved.version_id, resolved.row_count, resolved.evaluation_pairs) == (version.id, 30, False)
    data = world.store.get_bytes(resolved.bucket, f"{resolved.prefix}/{resolved.file}")
    (entry,) = Manifest.from_json(json.loads(resolved.manifest_json)).files
    assert (entry.path, entry.size) == (resolved.file, len(data))
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    assert [row["line"] for row in rows] == list(range(1, 31))
    assert json.loads(rows[3]["messages"])[1] == {"role": "assistant", "content": "Answer 3."}
    shown = await world.call("GetDataset", pb.GetDatasetRequest(dataset="support"))
    assert shown.latest_version == 1


async def test_rejected_rows_are_all_reported_and_paged(world: World) -> None:
    rows = [BAD if number % 3 == 0 else ROWS[0] for number in range(90)]
    version = await world.imported("bad", world.put("bad.jsonl", rows))
    assert version.state == States.FAILED
    assert (version.failure.reason, version.bad_row_count) == ("BAD_ROWS", 30)
    assert "30 rows were refused and the policy is REJECT" in version.failure.message
    seen: list[int] = []
    token = ""
    while True:
        request = pb.ListRowErrorsRequest(dataset="bad", version="1", page_size=7, page_token=token)
        page = await world.call("ListRowErrors", request)
        assert page.total_count == 30
        seen += [row.line for row in page.row_errors]
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(1, 91, 3))
    assert (page.row_errors[0].field, page.row_errors[0].code) == ("output", "WRONG_TYPE")
    with pytest.raises(WrongState) as caught:
        await world.ask("ResolveDatasetVersion", internal_pb2.ResolveDatasetVersionRequest(reference="bad@1"))
    assert caught.value.reason == "NOT_PUBLISHED"


async def test_skipped_rows_leave_a_version_that_waits_for_publish(world: World) -> None:
    fields = {"bad_row_policy": States.SKIP, "max_bad_rows": 2}
    version = await world.imported("mixed", world.put("mixed.jsonl", [*ROWS, BAD]), **fields)
    assert (version.state, version.row_count, version.bad_row_count) == (States.READY, 30, 1)
    publish = pb.PublishDatasetVersionRequest(dataset="mixed", version="1", request_id="once")
    first = await world.call("PublishDatasetVersion", publish)
    again = await world.call("PublishDatasetVersion", publish)
    assert first.state == again.state == States.PUBLISHED
    assert first.version == again.version == 3


async def test_a_draft_waits_and_a_preview_shows_its_rows(world: World) -> None:
    pairs = [{"question": f"q{n}", "answer": [f"a{n}", "b"], "category": "c"} for n in range(25)]
    version = await world.imported("pairs", world.put("p.jsonl", pairs), draft=True)
    assert (version.state, version.format) == (States.READY, States.EVALUATION_PAIRS)
    request = pb.PreviewDatasetVersionRequest(dataset="pairs", version="latest", page_size=20)
    page = await world.call("PreviewDatasetVersion", request)
    assert [row.line for row in page.rows] == list(range(1, 21))
    assert list(page.rows[4].references) == ["a4", "b"] and page.rows[4].category == "c"
    request.page_token = page.next_page_token
    page = await world.call("PreviewDatasetVersion", request)
    assert [row.line for row in page.rows] == list(range(21, 26)) and not page.next_page_token


async def test_a_folder_is_imported_in_the_order_of_its_keys(world: World) -> None:
    world.put("parts/b.jsonl", ROWS[10:20])
    world.put("parts/a.json", json.dumps(ROWS[:10]))
    version = await world.imported("parts", "parts/")
    assert (version.state, version.row_count) == (States.PUBLISHED, 20)
    assert version.source_identity["objects"] == "2"
    page = await world.call("PreviewDatasetVersion", pb.PreviewDatasetVersionRequest(dataset="parts", version="1"))
    assert json.loads(page.rows[0].messages_json)[0]["content"] == "Question 0?"


async def test_columns_are_mapped(world: World) -> None:
    key = world.put("odd.jsonl", [{"prompt_text": "Why?", "reply": "So."}])
    version = await world.imported("odd", key)
    assert (version.state, version.failure.reason) == (States.FAILED, "UNKNOWN_COLUMNS")
    assert "prompt_text, reply" in version.failure.message and "dataset_version.columns" in version.failure.message
    version = await world.imported("odd", key, columns={"instruction": "prompt_text", "output": "reply"})
    assert (version.state, version.number) == (States.PUBLISHED, 2)


WRONG_SOURCES: list[tuple[dict[str, Any], str, type[Exception], str, str]] = [
    ({}, "absent.jsonl", NotFound, "dataset_version.object.prefix", "absent.jsonl"),
    ({"credential": "nobody"}, "x", NotFound, "dataset_version.object.credential", "nobody"),
    ({"credential": "wrong"}, "x", Invalid, "dataset_version.object.credential", "secret key"),
    ({"credential": "away"}, "x", Invalid, "dataset_version.object.credential", "does not answer"),
    ({}, "", Invalid, "dataset_version.object.prefix", "Name the object"),
    ({"max_bad_rows": 3}, "x", Invalid, "dataset_version.max_bad_rows", "SKIP"),
    ({"columns": {"no": "x"}}, "x", Invalid, "dataset_version.columns", "no column of ours"),
    ({"metadata": {"k": "v" * 513}}, "x", Invalid, "dataset_version.metadata[k]", "512"),
]


async def test_a_wrong_source_names_its_field_and_leaves_nothing(world: World) -> None:
    for fields, key, kind, field, words in WRONG_SOURCES:
        with pytest.raises(kind) as caught:
            await world.create("never", key, **fields)
        error: Any = caught.value
        assert (error.metadata.get("field") or error.field) == field
        assert words in error.message
        with pytest.raises(NotFound):
            await world.call("GetDataset", pb.GetDatasetRequest(dataset="never"))


async def test_a_bucket_that_is_not_there_is_named(world: World) -> None:
    world.bucket = "no-such-bucket-at-all"
    with pytest.raises(NotFound) as caught:
        await world.create("never", "x.jsonl")
    assert caught.value.metadata["field"] == "dataset_version.object.bucket"
    with pytest.raises(NotFound) as caught:
        await world.call("BrowseObjects", pb.BrowseObjectsRequest(credential="team", bucket=world.bucket))
    assert caught.value.metadata["field"] == "bucket"


async def test_the_same_request_id_twenty_times_makes_one_version(world: World) -> None:
    key = world.put("train.jsonl", ROWS)
    made = await asyncio.gather(*(world.create("once", key, request_id="r-1") for _ in range(20)))
    assert len({version.id for version in made}) == 1
    listed = await world.call("ListDatasetVersions", pb.ListDatasetVersionsRequest(dataset="once"))
    assert [version.number for version in listed.dataset_versions] == [1]
    with pytest.raises(AlreadyExists):
        await world.create("once", key, request_id="r-1", draft=True)
    wish = pb.CreateDatasetRequest(dataset=pb.Dataset(name="two"), request_id="r-2")
    both = await asyncio.gather(*(world.call("CreateDataset", wish) for _ in range(20)))
    assert len({dataset.id for dataset in both}) == 1


async def test_a_create_that_failed_on_its_source_can_be_repeated_with_its_request_id(world: World) -> None:
    with pytest.raises(NotFound):
        await world.create("late", "late.jsonl", request_id="r-3")
    world.put("late.jsonl", ROWS)
    version = await world.imported("late", "late.jsonl", request_id="r-3")
    assert version.state == States.PUBLISHED


async def test_another_project_sees_nothing(world: World) -> None:
    version = await world.imported("mine", world.put("train.jsonl", ROWS))
    for method, request in (
        ("GetDataset", pb.GetDatasetRequest(dataset="mine")),
        ("GetDataset", pb.GetDatasetRequest(dataset=version.dataset_id)),
        ("DeleteDataset", pb.DeleteDatasetRequest(dataset=version.dataset_id)),
        ("GetDatasetVersion", get(version)),
        ("ListDatasetVersions", pb.ListDatasetVersionsRequest(dataset=version.dataset_id)),
        ("ListRowErrors", pb.ListRowErrorsRequest(dataset=version.dataset_id, version="1")),
        ("PublishDatasetVersion", pb.PublishDatasetVersionRequest(dataset=version.dataset_id, version="1")),
        ("PreviewDatasetVersion", pb.PreviewDatasetVersionRequest(dataset=version.dataset_id, version="1")),
        ("DeleteDatasetVersion", pb.DeleteDatasetVersionRequest(dataset=version.dataset_id, version="1")),
    ):
        with pytest.raises(NotFound):
            await world.call(method, request, OTHER)
    with pytest.raises(NotFound):
        request = internal_pb2.ResolveDatasetVersionRequest(reference=version.id)
        await world.ask("ResolveDatasetVersion", request, OTHER)


async def test_a_held_version_is_not_deleted_and_an_unconfirmed_hold_falls(world: World) -> None:
    version = await world.imported("held", world.put("train.jsonl", ROWS))
    hold = internal_pb2.ResolveDatasetVersionRequest(reference="held", holder="ftjob-1")
    await world.ask("ResolveDatasetVersion", hold)
    delete = pb.DeleteDatasetVersionRequest(dataset="held", version="1")
    for method, request in (
        ("DeleteDatasetVersion", delete),
        ("DeleteDataset", pb.DeleteDatasetRequest(dataset="held")),
    ):
        with pytest.raises(WrongState) as caught:
            await world.call(method, request)
        assert caught.value.reason == "IN_USE" and "ftjob-1" in caught.value.message
    await world.ask("ConfirmDatasetHold", internal_pb2.ConfirmDatasetHoldRequest(holder="ftjob-1"))
    await world.ask("ResolveDatasetVersion", hold)  # taken again: stays confirmed
    loose = internal_pb2.ResolveDatasetVersionRequest(reference="held", holder="ftjob-2")
    await world.ask("ResolveDatasetVersion", loose)
    holders = {"ftjob-1", "ftjob-2"}
    deadline = time.monotonic() + 10
    while holders != {"ftjob-1"}:  # hold_seconds is 2 here
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        with pytest.raises(WrongState) as caught:
            await world.call("DeleteDatasetVersion", delete)
        holders = set(caught.value.metadata["holders"].split(","))
    await world.ask("ReleaseDatasetHold", internal_pb2.ReleaseDatasetHoldRequest(holder="ftjob-1"))
    await world.call("DeleteDatasetVersion", delete)
    with pytest.raises(NotFound):
        await world.call("GetDatasetVersion", get(version))
    deadline = time.monotonic() + 10
    while list(world.store.list("modelry", f"datasets/proj-test/{version.id}/")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    again = await world.imported("held", "train.jsonl")
    assert again.number == 2  # a deleted number is never given again


async def test_events_tell_the_import_in_order(world: World) -> None:
    client = await nats_py.connect(world.nats.url, user="services", password=world.nats.passwords["services"])
    try:
        version = await world.imported("told", world.put("train.jsonl", ROWS))
        stream = client.jetstream()
        subject = f"modelry.events.proj-test.datasetVersion.{version.id}.>"
        subscription = await stream.subscribe(subject, ordered_consumer=True)
        events = [json.loads((await subscription.next_msg(10)).data) for _ in range(3)]
        assert [event["state"] for event in events] == ["IMPORTING", "READY", "PUBLISHED"]
        assert [event["terminal"] for event in events] == [False, False, True]
        assert [event["version"] for event in events] == [1, 2, 3]
        assert events[0]["links"] == {"dataset": version.dataset_id}
    finally:
        await client.close()


async def test_a_jobs_events_confirm_and_release_its_hold(world: World) -> None:
    from services.chassis.events import MESSAGE_ID, Event

    await world.imported("job-data", world.put("train.jsonl", ROWS))
    hold = internal_pb2.ResolveDatasetVersionRequest(reference="job-data", holder="ftjob-9")
    await world.ask("ResolveDatasetVersion", hold)
    client = await nats_py.connect(world.nats.url, user="services", password=world.nats.passwords["services"])
    delete = pb.DeleteDatasetVersionRequest(dataset="job-data", version="1")
    try:
        for happening, terminal in (("created", False), ("succeeded", True)):
            event = Event("proj-test", "job", "ftjob-9", happening, happening.upper(), terminal=terminal)
            await client.jetstream().publish(event.subject, event.body().encode(), headers={MESSAGE_ID: event.id})
            if not terminal:
                await asyncio.sleep(2.5)  # longer than an unconfirmed hold lasts
                with pytest.raises(WrongState):
                    await world.call("DeleteDatasetVersion", delete)
        deadline = time.monotonic() + 10
        while True:
            try:
                await world.call("DeleteDatasetVersion", delete)
                break
            except WrongState:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
    finally:
        await client.close()


async def test_a_data_set_is_changed_with_its_etag(world: World) -> None:
    made = await world.call("CreateDataset", pb.CreateDatasetRequest(dataset=pb.Dataset(name="d", title="A")))
    request = pb.UpdateDatasetRequest(
        dataset=pb.Dataset(id=made.id, title="B", etag=made.etag), update_mask=FieldMask(paths=["title"])
    )
    changed = await world.call("UpdateDataset", request)
    assert (changed.title, changed.etag) == ("B", "2")
    with pytest.raises(Conflict):
        await world.call("UpdateDataset", request)
    request.dataset.etag, request.dataset.latest_version = changed.etag, 9  # output only: ignored
    request.update_mask.paths.append("latest_version")
    assert (await world.call("UpdateDataset", request)).latest_version == 0
    request.update_mask.paths.append("latest")
    with pytest.raises(Invalid) as caught:
        await world.call("UpdateDataset", request)
    assert caught.value.field == "update_mask"
    for name in ("Bad Name", "ds-x", ""):
        with pytest.raises(Invalid) as caught:
            await world.call("CreateDataset", pb.CreateDatasetRequest(dataset=pb.Dataset(name=name)))
        assert caught.value.field == "dataset.name"
    with pytest.raises(AlreadyExists):
        await world.call("CreateDataset", pb.CreateDatasetRequest(dataset=pb.Dataset(name="d")))


async def test_a_bucket_is_browsed(world: World) -> None:
    for key in ("a/1.jsonl", "a/2.jsonl", "b.jsonl"):
        world.put(key, ROWS)
    request = pb.BrowseObjectsRequest(credential="team", bucket=world.bucket)
    page = await world.call("BrowseObjects", request)
    assert (list(page.folders), [info.key for info in page.objects]) == (["a/"], ["b.jsonl"])
    request.prefix = "a/"
    page = await world.call("BrowseObjects", request)
    assert [info.key for info in page.objects] == ["a/1.jsonl", "a/2.jsonl"]
    request.page_token = "a token of nobody"
    with pytest.raises(Invalid) as caught:
        await world.call("BrowseObjects", request)
    assert caught.value.field == "page_token"


async def test_a_killed_service_does_the_import_again_and_exactly_one_end_is_told(world: World) -> None:
    key = world.put(
        "big.jsonl", [{**row, "output": f"{number} {row['output']}"} for number in range(6000) for row in ROWS]
    )
    version = await world.create("killed", key)
    request = pb.WatchDatasetVersionRequest(dataset="killed", version=version.id)
    async for change in world.stub.WatchDatasetVersion(request, metadata=world.service.metadata()):
        assert change.state == States.IMPORTING
        if change.row_count:
            break
    world.service.kill()
    await world.service.start()
    done = await world.settled(version)
    assert (done.state, done.row_count, done.version) == (States.PUBLISHED, 180_000, 3)
    prefix = f"datasets/proj-test/{version.id}/"
    expected = {f"{prefix}2/data.parquet", f"{prefix}2/manifest.json"}
    async with asyncio.timeout(20):  # what the first attempt left is deleted beside
        while {info.key for info in world.store.list("modelry", prefix)} != expected:
            await asyncio.sleep(0.1)
    client = await nats_py.connect(world.nats.url, user="services", password=world.nats.passwords["services"])
    try:
        subscription = await client.jetstream().subscribe(
            f"modelry.events.proj-test.datasetVersion.{version.id}.>", ordered_consumer=True
        )
        states = [json.loads((await subscription.next_msg(10)).data)["state"] for _ in range(3)]
        assert states == ["IMPORTING", "READY", "PUBLISHED"]
        with pytest.raises(TimeoutError):
            await subscription.next_msg(1)
    finally:
        await client.close()


async def test_a_deleted_import_stops(world: World) -> None:
    key = world.put("big.jsonl", ROWS * 8000)
    version = await world.create("gone", key)
    await world.call("DeleteDatasetVersion", pb.DeleteDatasetVersionRequest(dataset="gone", version="1"))
    with pytest.raises(NotFound):
        await world.call("GetDatasetVersion", get(version))
    other = await world.imported("gone", world.put("small.jsonl", ROWS))
    assert (other.number, other.state) == (2, States.PUBLISHED)


async def test_the_service_answers_while_it_imports(world: World) -> None:
    key = world.put("big.jsonl", ROWS * 8000)
    version = await world.create("busy", key)
    slowest = 0.0
    state = States.IMPORTING
    while state == States.IMPORTING:
        started = time.perf_counter()
        state = (await world.call("GetDatasetVersion", get(version))).state
        slowest = max(slowest, time.perf_counter() - started)
        await asyncio.sleep(0.02)
    assert state == States.PUBLISHED
    assert slowest < 1.0
