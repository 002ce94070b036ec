"""Entities of serving as messages, and messages as commands."""

import hashlib
import json

from modelry.serving.v1 import serving_pb2 as pb
from services.chassis.auth import Principal
from services.chassis.data import request_digest
from services.chassis.proto_values import amount_of, message_of
from services.serving.domain.entities import Billing, Deployment, Engine, Mode
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
    return message_of(
        pb.Deployment,
        deployment,
        effective_adapter_mode=pb.Deployment.AdapterMode.ValueType(deployment.effective_mode.value),
        base_url=base_url,
        curl=curl_of(deployment, base_url),
    )


def curl_of(deployment: Deployment, base_url: str) -> str:
    """Return a command line that tries a deployment."""
    if not base_url:
        return ""
    body = json.dumps({"model": deployment.name, "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"curl {base_url}/chat/completions -H 'Authorization: Bearer '\"$MODELRY_API_KEY\" "
        f"-H 'Content-Type: application/json' -d '{body}'"
    )


def claim_message(claim: Claim, base_url: str) -> pb.ClaimedKey:
    """Return a claimed key, with its secret if this is the first answer."""
    deployment, curl = claim.deployment, curl_of(claim.deployment, base_url)
    return message_of(pb.ClaimedKey, claim, deployment_id=deployment.id, base_url=base_url, curl=curl)
