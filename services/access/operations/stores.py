"""The object stores that access knows how to reach."""

import logging
from collections.abc import Callable

from services.access.domain.credentials import Credential
from services.chassis.errors import Invalid, ModelryError, WrongState
from services.chassis.objects import AsyncObjectStore, ForeignRules, ForeignStores, StoreAccess
from services.chassis.vault import Sealed, Vault

_log = logging.getLogger(__name__)


class Stores:
    """The installation's own store, and the seal on the secrets of the others."""

    def __init__(self, builtin: StoreAccess, vault: Vault, rules: Callable[[], ForeignRules]) -> None:
        """Args: rules: returns what holds for the stores of credentials now."""
        self.builtin = builtin
        self.foreign = ForeignStores()
        self.rules = rules
        self._vault = vault
        self._ensured: set[str] = set()

    def seal(self, credential_id: str, secret: str) -> str:
        """Return a secret as it is stored."""
        return self._vault.seal(secret, f"credential/{credential_id}") if secret else ""

    def access(self, credential: Credential) -> StoreAccess:
        """Return the access to a credential's store, with its secret. Raises: WrongState: its seal does not open."""
        if credential.builtin:
            return self.builtin
        try:
            secret = self._vault.open(credential.sealed_secret, f"credential/{credential.id}")
        except Sealed as error:
            _log.error("the secret of %s does not open: %s", credential.id, error)
            raise WrongState(
                f"The secret of the credential {credential.name!r} was stored with another installation's key. "
                "Update the credential with its secret.",
                reason="SECRET_SEALED",
            ) from error
        return StoreAccess(
            credential.endpoint,
            credential.access_key,
            secret,
            credential.region,
            self.builtin.ca_file,
            self.rules(),
        )

    def refuse_local(self, endpoint: str) -> None:
        """Refuse an endpoint that may not be one, as far as it says so itself. Raises: Invalid."""
        if refusal := self.rules().literal_refusal(endpoint):
            path = "credential.endpoint"
            message = f"{path} {endpoint!r} is {refusal}, which only the setting `local_stores` allows."
            raise Invalid(message, field=path, reason="ENDPOINT_NOT_ALLOWED")

    async def ensure_bucket(self, bucket: str) -> None:
        """Make a project's bucket on the installation's store, unless this process has seen it already."""
        if bucket in self._ensured or not self.builtin.access_key:
            return
        await AsyncObjectStore(self.builtin).ensure_bucket(bucket)
        self._ensured.add(bucket)

    async def try_ensure_bucket(self, bucket: str) -> None:
        """Make a project's bucket, or log why that fails now; the maintenance tries again."""
        try:
            await self.ensure_bucket(bucket)
        except ModelryError as error:
            _log.warning("the bucket %s is not made yet: %s", bucket, error.message)
