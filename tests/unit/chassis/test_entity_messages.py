"""Entities as messages by the names of their fields, and messages as commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelry.billing.v1 import billing_pb2
from modelry.common.v1 import common_pb2
from modelry.registry.v1 import internal_pb2
from modelry.registry.v1 import registry_pb2 as pb
from services.chassis.data import Page
from services.chassis.locations import StoredFiles
from services.chassis.proto_values import message_of, money_of, page_message, timestamp_of, value_of
from services.chassis.transitions import Failure, FailureKind
from services.registry.domain import Kind, Model, ModelVersion, Origin, State

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 24, 1, 2, 3, 456789, UTC)
MODEL = Model("mdl-1", "proj-1", "small", "Small", {"a": "b"}, Origin.PRESET, NOW, NOW, languages=("en",), version=3)


def test_a_message_has_the_values_of_the_entitys_fields_and_its_version_as_etag() -> None:
    moment = timestamp_of(NOW)
    assert message_of(pb.Model, MODEL) == pb.Model(
        id="mdl-1", name="small", title="Small", metadata={"a": "b"}, etag="3", origin=pb.Model.PRESET,
        languages=["en"], create_time=moment, update_time=moment,
    )  # fmt: skip


def test_nested_values_and_what_is_none_become_what_the_field_is() -> None:
    failure = Failure("BROKEN", "It broke.", FailureKind.USER)
    version = ModelVersion("mv-1", "p", "mdl-1", "m", 1, State.FAILED, Kind.FULL, NOW, base_id="mv-0", failure=failure)
    message = message_of(pb.ModelVersion, version, base_model_version_id=version.base_id)
    assert message.failure == common_pb2.Failure(reason="BROKEN", message="It broke.", kind=common_pb2.Failure.USER)
    assert message.base_model_version_id == "mv-0"
    assert not message.HasField("source")
    assert not message.HasField("finish_time")


def test_an_amount_is_money() -> None:
    price = Decimal("1.25")
    message = message_of(billing_pb2.Price, None, item="replica-hour", amount=price, set_time=None)
    assert message == billing_pb2.Price(item="replica-hour", amount=money_of(price))


def test_a_value_without_a_field_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="colour"):
        message_of(pb.Model, MODEL, colour="red")


def test_a_page_is_the_answer_of_its_list() -> None:
    answer = page_message(pb.ListModelsResponse, Page((MODEL,), "next"))
    assert [model.id for model in answer.models] == ["mdl-1"]
    assert answer.next_page_token == "next"


@dataclass(frozen=True)
class Wish:
    project: str
    job_id: str
    checkpoint_step: int
    dataset_version_ids: tuple[str, ...]
    metrics: Mapping[str, float]
    extra: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)


def test_a_command_has_the_values_of_the_messages_fields() -> None:
    request = internal_pb2.RegisterCheckpointRequest(
        job_id="j", checkpoint_step=4, dataset_version_ids=["d"], metrics={"loss": 0.5}, bucket="b", prefix="p"
    )
    assert value_of(Wish, request, project="p") == Wish("p", "j", 4, ("d",), {"loss": 0.5})
    assert value_of(StoredFiles, request) == StoredFiles("b", "p", "", "")
