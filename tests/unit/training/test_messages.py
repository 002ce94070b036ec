"""A job is shown as it was given, its clone is given the same, and a quote is for all of it. Found in the proto."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from modelry.common.v1 import common_pb2
from modelry.training.v1 import training_pb2 as pb
from services.chassis.jobs import JobView
from services.chassis.proto_values import money_of
from services.training.domain import Job
from services.training.messages import draft_of, job_message, spec_digest
from services.training.operations import clone_draft

pytestmark = pytest.mark.unit
SAMPLES = {
    FieldDescriptor.TYPE_STRING: "word",
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_DOUBLE: 0.25,
    FieldDescriptor.TYPE_INT32: 2,
    FieldDescriptor.TYPE_INT64: 2,
    FieldDescriptor.TYPE_ENUM: 2,
}
NOT_GIVEN = {"etag"}


def given_fields(message: Any) -> list[Any]:
    """The fields that callers give."""
    fields = [field for field in message.DESCRIPTOR.fields if field.name not in NOT_GIVEN]
    behavior = field_behavior_pb2.field_behavior
    return [one for one in fields if field_behavior_pb2.OUTPUT_ONLY not in one.GetOptions().Extensions[behavior]]


def fill(message: Message) -> None:
    """Give every field that callers give a value that is no default."""
    for field in given_fields(message):
        value: Any = getattr(message, field.name)
        if field.message_type is None:
            sample = SAMPLES[field.type]
            if field.is_repeated:
                value.append(sample)
            else:
                setattr(message, field.name, sample)
        elif field.message_type.GetOptions().map_entry:
            value["key"] = "word"
        elif field.message_type is common_pb2.Money.DESCRIPTOR:
            value.CopyFrom(money_of(Decimal("1.5")))
        else:
            fill(value.add() if field.is_repeated else value)


def given(message: pb.Job) -> dict[str, Any]:
    """The fields of a job that callers give."""
    return {field.name: getattr(message, field.name) for field in given_fields(message)}


def shown(job: Job) -> pb.Job:
    return job_message(JobView(job, None, {}, 0.0))


def test_every_field_that_is_given_is_shown() -> None:
    message = pb.Job()
    fill(message)
    assert given(shown(draft_of(message, "proj-1"))) == given(message)


def test_a_clone_has_all_that_was_given_but_name_and_quote_and_nothing_of_the_old_jobs_course() -> None:
    message = pb.Job()
    fill(message)
    course = {"best_checkpoint_id": "ftckpt_1", "published_model_version_id": "mv-2", "unit_price": Decimal(2)}
    old = replace(draft_of(message, "proj-1"), id="ftjob-1", model_version_id="mv-1", version=7, attempt=3, **course)  # type: ignore[arg-type]
    clone = clone_draft(old, "second")
    assert given(shown(clone)) == {**given(message), "name": "second", "quote_id": ""}
    fresh = replace(draft_of(message, "proj-1"), name="second", quote_id="", model_version_id="mv-1")
    assert clone == replace(fresh, create_time=clone.create_time, update_time=clone.update_time)


OF_NO_PRICE = {"name", "title", "metadata", "publish_on_success", "quote_id", "max_cost", "suffix"}
"""What only names or limits a job: a quote is for all that makes its work."""


def test_every_field_that_makes_work_is_part_of_what_a_quote_is_for() -> None:
    message = pb.Job()
    fill(message)
    whole = spec_digest(message, draft_of(message, "proj-1"))
    for field in given_fields(message):
        other = pb.Job()
        other.CopyFrom(message)
        other.ClearField(field.name)
        same = spec_digest(other, draft_of(other, "proj-1")) == whole
        assert same == (field.name in OF_NO_PRICE), field.name
