"""Entities of serving as messages, and messages as commands."""

from __future__ import annotations

import hashlib
import json

from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.auth import Principal
from services.chassis.data import request_digest
from services.chassis.proto_values import amount_of, failure_of, money_of, timestamp_of
from services.serving.domain.entities import Billing, Deployment, Engine, Mode, Replica, State
from services.serving.operations.create_deployment import CreateDeployment
from services.serving.operations.deployments import Claim


def create_command(request: pb.CreateDeploymentRequest, caller: Principal) -> CreateDeployment:
    """Return what a create or quote asks for."""
    wanted = request.deployment
    options = wanted.engine
    return CreateDeployment(
        caller=caller,
        model=wanted.model,
        name=wanted.name,
        title=wanted.title,
        metadata=dict(wanted.metadata),
        replicas=wanted.replicas if wanted.HasField("replicas") else None,
        engine=Engine(
            options.max_model_length, options.kv_cache_gib, options.compile, options.max_sequences, options.cpus
        ),
        accepts_adapters=wanted.accepts_adapters if wanted.HasField("accepts_adapters") else None,
        adapter_mode=Mode(wanted.adapter_mode or Mode.AUTO.value),
        billing=Billing(wanted.billing or Billing.DEDICATED.value),
        shared_with=tuple(wanted.shared_with),
        quote_id=wanted.quote_id,
        max_cost=amount_of(wanted.max_cost, "deployment.max_cost") if wanted.HasField("max_cost") else None,
        request_id=request.request_id,
        digest=request_digest(request),
        spec_digest=_spec_digest(request),
    )


def _spec_digest(request: pb.CreateDeploymentRequest) -> str:
    """Return the digest of what a quote is for: everything but the quote itself, the limit, and words."""
    copy = pb.Deployment()
    copy.CopyFrom(request.deployment)
    for field in ("quote_id", "max_cost", "title", "metadata", "etag"):
        copy.ClearField(field)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def deployment_message(deployment: Deployment, base_url: str) -> pb.Deployment:
    """Return a deployment as it is shown."""
    message = pb.Deployment(
        id=deployment.id,
        name=deployment.name,
        title=deployment.title,
        metadata=dict(deployment.metadata),
        etag=str(deployment.version),
        state=pb.Deployment.State.Value(deployment.state.name),
        model=deployment.model,
        model_version_id=deployment.model_version_id,
        replicas=deployment.replicas,
        ready_replicas=deployment.ready_replicas,
        engine=_engine_message(deployment.engine),
        accepts_adapters=deployment.accepts_adapters,
        adapter_mode=pb.Deployment.AdapterMode.ValueType(deployment.adapter_mode.value),
        effective_adapter_mode=pb.Deployment.AdapterMode.ValueType(deployment.effective_mode.value),
        billing=pb.Deployment.Billing.Value(deployment.billing.name),
        shared_with=deployment.shared_with,
        key_claimable=_claimable(deployment),
        key_id=deployment.key_id,
        base_url=base_url,
        curl=curl_of(deployment, base_url),
        quote_id=deployment.quote_id,
        cost=money_of(deployment.cost),
        version=deployment.version,
        cause=deployment.cause,
        create_time=timestamp_of(deployment.create_time),
        first_ready_time=timestamp_of(deployment.first_ready_time),
        max_cost=money_of(deployment.max_cost),
        failure=failure_of(deployment.failure),
    )
    _fill_optional(message, deployment)
    return message


def _engine_message(engine: Engine) -> pb.EngineOptions:
    return pb.EngineOptions(
        max_model_length=engine.max_model_length,
        kv_cache_gib=engine.kv_cache_gib,
        compile=engine.compile,
        max_sequences=engine.max_sequences,
        cpus=engine.cpus,
    )


def _fill_optional(message: pb.Deployment, deployment: Deployment) -> None:
    for one in deployment.adapters:
        message.adapters.add(
            model_version_id=one.model_version_id, fine_tuned_name=one.fine_tuned_name, ready=one.ready, cause=one.cause
        )


def _claimable(deployment: Deployment) -> bool:
    living = deployment.state not in (State.DELETING, State.DELETED)
    return living and deployment.first_ready_time is not None and not deployment.key_id


def curl_of(deployment: Deployment, base_url: str) -> str:
    """Return a command line that tries a deployment."""
    if not base_url:
        return ""
    body = json.dumps({"model": deployment.name, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"curl {base_url}/chat/completions -H 'Authorization: Bearer '\"$MODELRY_API_KEY\" "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def replica_message(replica: Replica) -> pb.Replica:
    """Return a replica as it is shown."""
    return pb.Replica(
        id=replica.id,
        deployment_id=replica.deployment_id,
        state=pb.Replica.State.Value(replica.state.name),
        address=replica.address,
        cpus=replica.cpus,
        pid=replica.pid,
        restart_count=replica.restart_count,
        ready_seconds=replica.ready_seconds,
        cause=replica.cause,
        create_time=timestamp_of(replica.create_time),
        update_time=timestamp_of(replica.update_time),
    )


def claim_message(claim: Claim, base_url: str) -> pb.ClaimedKey:
    """Return a claimed key, with its secret if this is the first answer."""
    return pb.ClaimedKey(
        deployment_id=claim.deployment.id,
        key_id=claim.key_id,
        secret=claim.secret,
        base_url=base_url,
        curl=curl_of(claim.deployment, base_url),
    )
