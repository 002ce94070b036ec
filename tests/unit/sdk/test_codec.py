"""The one JSON form of messages."""

from __future__ import annotations

import json

import pytest

from modelry.access.v1 import access_pb2
from modelry.codec import CodecError, decode, encode
from modelry.common.v1 import common_pb2
from modelry.json_types import format_money, parse_money
from modelry.training.v1 import training_pb2

pytestmark = pytest.mark.unit


def test_a_job_survives_the_round_trip() -> None:
    source = {
        "model": "smollm2-135m-instruct",
        "datasets": [{"ref": "desk", "max_samples": 7}],
        "hyperparameters": {"learning_rate": 0.001, "lr_scheduler": "LINEAR", "warmup_ratio": 0},
        "max_cost": "12.5",
        "metadata": {"team": "a"},
    }
    job = decode(source, training_pb2.Job())
    again = decode(json.loads(json.dumps(encode(job))), training_pb2.Job())
    assert again == job
    assert encode(job)["max_cost"] == "12.50"
    assert job.hyperparameters.HasField("warmup_ratio")


def test_fields_without_presence_are_printed_and_others_only_when_set() -> None:
    data = encode(training_pb2.Checkpoint())
    assert data["step"] == 0 and data["best"] is False and data["metrics"] == {}
    assert "location" not in data and "create_time" not in data


def test_input_takes_camel_case_integer_strings_and_lower_case_words() -> None:
    job = decode(
        {"validationRatio": "0.1", "hyperparameters": {"seed": "42", "computeType": "fp32"}}, training_pb2.Job()
    )
    assert job.validation_ratio == 0.1
    assert job.hyperparameters.seed == 42
    assert job.hyperparameters.compute_type == training_pb2.Hyperparameters.FP32


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"modle": "x"}, "modle"),
        ({"hyperparameters": {"lora_rnk": 8}}, "hyperparameters.lora_rnk"),
        ({"datasets": [{"ref": "a"}, {"ref": 7}]}, "datasets[1].ref"),
        ({"datasets": {}}, "datasets"),
        ({"hyperparameters": {"lora_rank": 1.5}}, "hyperparameters.lora_rank"),
        ({"hyperparameters": {"lora_rank": 2**40}}, "hyperparameters.lora_rank"),
        ({"hyperparameters": {"learning_rate": True}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"compute_type": "int3"}}, "hyperparameters.compute_type"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"validation_ratio": 0.1, "validationRatio": 0.2}, "validationRatio"),
        ({"hyperparameters": {"loraRank": 8, "lora_rank": 8}}, "hyperparameters.lora_rank"),
        ({"max_cost": "much"}, "max_cost"),
        ({"max_cost": "1e999999999"}, "max_cost"),
        ({"max_cost": "1e999990"}, "max_cost"),
        ({"max_cost": "Infinity"}, "max_cost"),
        ({"max_cost": "NaN"}, "max_cost"),
        ({"max_cost": 10**4000}, "max_cost"),
        ({"hyperparameters": {"learning_rate": 10**400}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"learning_rate": "nan"}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"lora_rank": 10**4000}}, "hyperparameters.lora_rank"),
        ({"hyperparameters": {"compute_type": 2**32 + 1}}, "hyperparameters.compute_type"),
        ({"hyperparameters": {"compute_type": 10**4000}}, "hyperparameters.compute_type"),
        ({"hyperparameters": {"compute_type": "\ud800"}}, "hyperparameters.compute_type"),
        ({"hyperparameters": {"compute_type": True}}, "hyperparameters.compute_type"),
        ({"title": "\ud800"}, "title"),
        ({"metadata": {"\ud800": "a"}}, "metadata.\ud800"),
        ({"create_time": "yesterday"}, "create_time"),
        ([], ""),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(data: object, path: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(data, training_pb2.Job())
    assert caught.value.problems[0].field == path


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(CodecError) as caught:
        decode({"modle": 1, "title": 2, "datasets": 3}, training_pb2.Job())
    assert [p.field for p in caught.value.problems] == ["modle", "title", "datasets"]


def test_secrets_are_taken_and_never_printed() -> None:
    credential = decode({"access_key": "a", "secret_key": "s"}, access_pb2.Credential())
    assert credential.secret_key == "s"
    assert "secret_key" not in encode(credential)


@pytest.mark.parametrize("text", ["0.00", "12.34", "-0.50", "0.000000001", "1000000.00"])
def test_money_keeps_its_amount(text: str) -> None:
    assert format_money(*parse_money(text)) == text


def test_money_refuses_more_than_nine_decimals() -> None:
    with pytest.raises(ValueError):
        parse_money("0.0000000001")


def test_times_and_durations() -> None:
    quote = decode({"expire_time": "2026-01-31T12:00:00.5+02:00"}, common_pb2.Quote())
    assert encode(quote)["expire_time"] == "2026-01-31T10:00:00.500000Z"
    progress = decode({"eta": "3.5s"}, training_pb2.JobProgress())
    assert encode(progress)["eta"] == "3.5s"
    assert encode(decode({"eta": "100s"}, training_pb2.JobProgress()))["eta"] == "100s"
