"""What is done when gateways know more of the keys than the database: after a restore of an older copy."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services.access.domain.keys import ApiKey, KeyState, Secret
from services.access.operations.context import ServiceContext
from services.chassis.data import retry_conflicts

Records = Mapping[str, tuple[int, Mapping[str, Any] | None]]


@retry_conflicts
async def overtake(context: ServiceContext, ahead: Records) -> None:
    """Raise the versions of keys above those of the records that the bucket holds of them, by the hash of a secret.

    What has ended stays ended, as the bucket has it: a restore lets no revoked key and no replaced secret in again.
    """
    async with context.writing() as uow:
        for key in await uow.keys.select():
            known = {secret.hash: ahead[secret.hash] for secret in key.secrets if secret.hash in ahead}
            if known:
                newest = max(version for version, _ in known.values())
                await uow.keys.raise_version(key, newest)
                await uow.keys.save(replace(_ended(key, known), version=newest + 1))
        await uow.commit()


def _ended(key: ApiKey, known: Records) -> ApiKey:
    values = {digest: value or {} for digest, (_, value) in known.items()}
    revoked = any(value.get("state") == KeyState.REVOKED.name for value in values.values())
    secrets = tuple(_until(secret, values.get(secret.hash, {}).get("expire_time")) for secret in key.secrets)
    return replace(key, state=KeyState.REVOKED if revoked else key.state, secrets=secrets)


def _until(secret: Secret, seconds: float | None) -> Secret:
    if seconds is None:
        return secret
    end = datetime.fromtimestamp(seconds, UTC)
    return replace(secret, until=min(end, secret.until) if secret.until else end)
