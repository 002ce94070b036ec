"""The journey with a tiny model: every stage, through the doors that users have."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import grpc
import openai
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from openai import OpenAI

from modelry.training.v1 import training_pb2, training_pb2_grpc
from tests.stack import Journey, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUESTION: Any = [{"role": "user", "content": "Say number 3"}]


def test_the_loss_falls_and_has_no_gap(stack: Stack, journey: Journey) -> None:
    points = [p for p in stack.client.read_job_metrics(job=journey.ids["job"]) if "loss" in p.values]
    steps = [point.step for point in points]
    assert steps == list(range(1, len(steps) + 1))
    assert points[-1].values["loss"] < points[0].values["loss"]


def test_the_report_compares_tuned_with_base(stack: Stack, journey: Journey) -> None:
    report = stack.client.get_report(evaluation=journey.ids["evaluation"])
    assert {score.target for score in report.scores} == {"base", "tuned"}
    assert report.comparisons
    samples = list(stack.client.pages("list_samples", "samples", evaluation=journey.ids["evaluation"]))
    assert {sample.target for sample in samples} == {"base", "tuned"}
    assert all(sample.references for sample in samples)


@pytest.mark.parametrize("by", ["deployment", "ft"])
def test_the_openai_package_streams_from_the_tuned_model(stack: Stack, journey: Journey, by: str) -> None:
    key = journey.resources["key"]
    name = "numbers" if by == "deployment" else journey.resources["tuned"].fine_tuned_name
    with OpenAI(base_url=f"{stack.http}/v1", api_key=key.secret) as client:
        chunks = list(client.chat.completions.create(model=name, messages=QUESTION, max_tokens=8, stream=True))
    assert any(chunk.choices and chunk.choices[0].finish_reason for chunk in chunks)
    assert all(chunk.choices for chunk in chunks), "usage was not asked for and is not shown"


def test_models_lists_what_the_key_can_call(stack: Stack, journey: Journey) -> None:
    with OpenAI(base_url=f"{stack.http}/v1", api_key=journey.resources["key"].secret) as client:
        names = {model.id for model in client.models.list()}
        assert "numbers" in names
        assert client.models.retrieve("numbers").id == "numbers"


def test_errors_have_openai_bodies(stack: Stack, journey: Journey) -> None:
    with OpenAI(base_url=f"{stack.http}/v1", api_key="mk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            client.models.list()
        assert wrong.value.code == "invalid_api_key"
    with OpenAI(base_url=f"{stack.http}/v1", api_key=journey.resources["key"].secret, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="nobody", messages=QUESTION)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as long:
            words: Any = [{"role": "user", "content": "word " * 5000}]
            client.chat.completions.create(model="numbers", messages=words)
        assert long.value.code == "context_length_exceeded"


def test_the_grpc_door_reflects_and_lists_jobs(stack: Stack, journey: Journey) -> None:
    with grpc.insecure_channel(stack.grpc) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(iter(stub.ServerReflectionInfo(iter([request]))))
        services = {service.name for service in answer.list_services_response.service}
        assert "modelry.training.v1.TrainingService" in services
        assert not any("Internal" in name for name in services)
        training: Any = training_pb2_grpc.TrainingServiceStub(channel)
        metadata = (("authorization", f"Bearer {stack.admin_key}"),)
        jobs = training.ListJobs(training_pb2.ListJobsRequest(), metadata=metadata).jobs
        assert journey.ids["job"] in {job.id for job in jobs}
        with pytest.raises(grpc.RpcError) as refused:
            training.ListJobs(training_pb2.ListJobsRequest())
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_job_has_exactly_one_terminal_event(stack: Stack, journey: Journey) -> None:
    events = list(stack.client.pages("list_events", "events", resource="job", id=journey.ids["job"]))
    happened = [event.happening for event in events]
    assert [word for word in happened if word in ("succeeded", "failed", "stopped")] == ["succeeded"]


def test_the_lineage_goes_from_data_to_deployment(stack: Stack, journey: Journey) -> None:
    graph = stack.client.get_lineage(model="numbers-model", version="1")
    kinds = {node.kind for node in graph.nodes}
    assert {"modelVersion", "job", "checkpoint", "datasetVersion"} <= kinds


def test_http_and_grpc_say_the_same(stack: Stack, journey: Journey) -> None:
    request = urllib.request.Request(
        f"{stack.http}/api/v1/jobs/{journey.ids['job']}", headers={"Authorization": f"Bearer {stack.admin_key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        over_http = json.load(answer)
    assert over_http["id"] == journey.ids["job"]
    assert over_http["state"] == "SUCCEEDED"
