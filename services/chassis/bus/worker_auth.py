"""Who may use NATS besides the fixed users: a worker, and that only for its own job.

A worker's user is its job's id and its password is derived from the installation's secret, so nothing is stored and
nothing has to be withdrawn. NATS asks (auth callout) whoever runs a `WorkerGate`; several may, one of them answers.
The fixed users of the server's configuration never need it. Without a gate a worker cannot connect; it goes on working
and keeps its reports in its spool.

The password and the key that signs answers are both derived from `token_secret`, so a server's configuration and the
services agree without another secret.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt
import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from services.chassis.tasks import end_tasks

if TYPE_CHECKING:  # the server's configuration needs no client
    from services.chassis.bus.connection import Bus
    from services.chassis.bus.session import Session

SUBJECT = "$SYS.REQ.USER.AUTH"
QUEUE = "modelry-worker-gate"
ACCOUNT = "$G"
# One token of a subject and nothing that NATS reads as a wildcard.
_JOB_ID = re.compile(r"[a-z]+-[a-z0-9]{1,64}")

_log = logging.getLogger(__name__)


def worker_login(token_secret: SecretStr, job_id: str) -> dict[str, str]:
    """Return what a worker connects with: `{user, password, inbox_prefix}`. It must use that prefix for its replies."""
    return {"user": job_id, "password": _password(token_secret, job_id), "inbox_prefix": inbox_prefix(job_id)}


def inbox_prefix(job_id: str) -> str:
    """Return where the replies to a worker arrive; it may listen nowhere else."""
    return f"_INBOX.{job_id}"


def callout_config(token_secret: SecretStr, fixed_users: list[str]) -> dict[str, Any]:
    """Return the `auth_callout` block of the server's configuration; it holds a public key and no secret."""
    return {"issuer": _signer(token_secret).public_key.decode(), "account": ACCOUNT, "auth_users": fixed_users}


class WorkerGate:
    """Answers NATS when a worker connects. Run it in every service that starts workers, and in access."""

    def __init__(self, bus: Bus, token_secret: SecretStr) -> None:
        """Args: bus: the process's connection, as user `services`."""
        self._bus, self._secret = bus, token_secret
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer, on this connection and each that follows; returns at once."""
        self._task = asyncio.create_task(self._bus.on_each(self._serve, "worker gate"))

    async def stop(self) -> None:
        """Stop answering."""
        await end_tasks(self._task)

    async def _serve(self, session: Session) -> None:
        await session.call(session.client.subscribe(SUBJECT, queue=QUEUE, cb=self._answer(session.client)))
        await session.closed.wait()

    def _answer(self, client: Client) -> Any:
        async def heard(message: Msg) -> None:
            try:
                answer = decide(self._secret, message.data)
            except (jwt.DecodeError, KeyError, TypeError) as error:
                _log.warning("an authorization request of NATS could not be read: %s", error)
                return
            await client.publish(message.reply, answer)

        return heard


def decide(token_secret: SecretStr, request: bytes) -> bytes:
    """Return the signed answer to a server's request. Raises DecodeError or KeyError for one that cannot be read."""
    # Only the server itself can write to the subjects that it comes on.
    asked = jwt.decode(request, options={"verify_signature": False})["nats"]
    options: Mapping[str, Any] = asked.get("connect_opts", {})
    user, password = str(options.get("user", "")), str(options.get("pass", ""))
    known = _JOB_ID.fullmatch(user) is not None
    granted = hmac.compare_digest(password.encode(), _password(token_secret, user).encode()) and known
    signer = _signer(token_secret)
    answer: dict[str, Any] = {"type": "authorization_response", "version": 2}
    if granted:
        answer["jwt"] = _sign(signer, asked["user_nkey"], ACCOUNT, user, _user_claims(user))
    else:
        answer["error"] = "unknown user or wrong password"
    return _sign(signer, asked["user_nkey"], asked["server_id"]["id"], "", answer).encode()


def _user_claims(job_id: str) -> dict[str, Any]:
    """Return what NATS lets a worker do: report of its own job, and hear the acknowledgements."""
    permissions = {
        "pub": {"allow": [f"modelry.work.*.{job_id}", f"modelry.heartbeat.*.{job_id}"]},
        "sub": {"allow": [f"{inbox_prefix(job_id)}.>"]},
    }
    return {**permissions, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}


def _password(token_secret: SecretStr, job_id: str) -> str:
    return _derive(token_secret, f"nats worker {job_id}").hex()


def _signer(token_secret: SecretStr) -> Any:
    seed = nkeys.encode_seed(_derive(token_secret, "nats callout issuer"), nkeys.PREFIX_BYTE_ACCOUNT)
    return nkeys.from_seed(bytearray(seed))


def _derive(token_secret: SecretStr, purpose: str) -> bytes:
    return hmac.new(token_secret.get_secret_value().encode(), purpose.encode(), hashlib.sha256).digest()


def _sign(signer: Any, subject: str, audience: str, name: str, content: dict[str, Any]) -> str:
    claims = {
        "jti": secrets.token_hex(16),
        "iat": int(time.time()),
        "iss": signer.public_key.decode(),
        "sub": subject,
        "aud": audience,
        "name": name,
        "nats": content,
    }
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(signer.sign(signed)).rstrip(b"=")
    return (signed + b"." + signature).decode()
