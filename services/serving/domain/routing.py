"""What gateways are told of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.serving.domain.entities import Deployment, Mode, Replica, ReplicaState, State


def route_of(deployment: Deployment, replicas: Sequence[Replica]) -> dict[str, Any]:
    """Return the route without its version and without secrets; equal routes need no new record."""
    ready = [one for one in replicas if one.state is ReplicaState.READY]
    # A deployment of an attached adapter answers under its name once the adapter is on all replicas.
    own = next((one for one in deployment.adapters if one.own), None)
    answers = deployment.effective_mode is not Mode.ATTACHED or (own is not None and own.ready)
    return {
        "deployment_id": deployment.id,
        "project": deployment.project,
        "name": deployment.name,
        "deleted": deployment.state is State.DELETED,
        "state": deployment.state.name,
        "model_version_id": deployment.model_version_id,
        "engine_model": deployment.name,
        "max_model_length": deployment.engine.max_model_length,
        "shared_with": list(deployment.shared_with),
        "billing": deployment.billing.name,
        "accepts_adapters": deployment.accepts_adapters,
        "replicas": [{"id": one.id, "address": one.address} for one in ready if answers],
        "adapters": _adapters_of(deployment),
    }


def _adapters_of(deployment: Deployment) -> list[dict[str, Any]]:
    """Return the tuned names that it answers to, ready or not; one without an engine name can never be attached."""
    adapters = [
        {
            "fine_tuned_name": one.fine_tuned_name,
            "model_version_id": one.model_version_id,
            "engine_model": one.engine_name,
            "ready": one.ready,
            "project": one.project or deployment.project,
        }
        for one in deployment.adapters
        if one.fine_tuned_name and one.engine_name
    ]
    if deployment.effective_mode is Mode.MERGED and deployment.facts.fine_tuned_name:
        merged = {
            "fine_tuned_name": deployment.facts.fine_tuned_name,
            "model_version_id": deployment.model_version_id,
            "engine_model": deployment.name,
            "ready": True,
            "project": deployment.project,
        }
        adapters.append(merged)
    return adapters


def with_secrets(route: Mapping[str, Any], version: int, secret_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the record as gateways read it."""
    replicas = [{**one, "secret": secret_of(one["id"])} for one in route.get("replicas", ())]
    return {**route, "version": version, "replicas": replicas}
