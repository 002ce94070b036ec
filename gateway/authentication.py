"""From a key to a principal in a project, and from a principal to the token that services accept."""

import time
from collections.abc import Iterable, Mapping

from gateway.context import Metadata, text_of
from gateway.keys import KeyRing
from services.chassis.auth import Principal, Role, TokenIssuer
from services.chassis.errors import Denied, NotFound, Unauthenticated
from services.chassis.rpc import Tokens
from services.clients.credentials import CredentialClient
from services.clients.records import KeyRecord

DEFAULT_PROJECT = "default"
_TOKEN_SECONDS = 600.0
_PROJECT_SECONDS = 60.0
_MOST_CACHED = 10_000


class Authenticator:
    """Authenticates callers; keeps tokens and the ids of projects for a while."""

    def __init__(self, keys: KeyRing, issuer: TokenIssuer, credentials: CredentialClient) -> None:
        self._keys, self._credentials = keys, credentials
        self._tokens = Tokens(issuer, _TOKEN_SECONDS)  # each is good for five minutes at least
        self._projects: dict[str, tuple[str, float]] = {}

    def key(self, headers: Mapping[str, str], address: str) -> KeyRecord:
        """Return the key of a request: `authorization: Bearer KEY`, or `x-api-key`. Raises: Unauthenticated, Denied."""
        value = headers.get("authorization", "")
        scheme, _, secret = value.partition(" ")
        if value and scheme.lower() != "bearer":
            raise Unauthenticated("Give the API key as `Authorization: Bearer mk-…`.")
        secret = secret.strip() or headers.get("x-api-key", "")
        if not secret:
            raise Unauthenticated("You did not provide an API key. Give it as `Authorization: Bearer mk-…`.")
        return self._keys.authenticate(secret, address)

    async def project(self, key: KeyRecord, headers: Mapping[str, str]) -> str:
        """Return the id of the project that a call is in. Raises: NotFound, Denied, Unavailable."""
        asked = _asked_project(headers)
        if key.project:
            if asked and asked not in (key.project, key.project_name):
                raise NotFound(f"There is no project {asked!r} for this key.", reason="PROJECT_NOT_FOUND")
            return key.project
        if key.role < Role.ADMIN:
            raise Denied("The key belongs to no project and is no admin key.")
        return await self._resolve(asked or DEFAULT_PROJECT)

    async def _resolve(self, name: str) -> str:
        project_id, until = self._projects.get(name, ("", 0.0))
        if time.monotonic() < until:
            return project_id
        project_id = (await self._credentials.project("", name, role=Role.ADMIN)).id
        if len(self._projects) >= _MOST_CACHED:
            self._projects.clear()
        self._projects[name] = (project_id, time.monotonic() + _PROJECT_SECONDS)
        return project_id

    async def principal(self, headers: Mapping[str, str], address: str, least: Role) -> Principal:
        """Return who is calling, and in which project; whoever is below the least role is refused before anything is
        read of the call. Raises: Unauthenticated, Denied, NotFound, Unavailable.
        """
        key = self.key(headers, address)
        project = await self.project(key, headers)
        principal = Principal(project, key.role, key.key_id, "user", key.key_id)
        principal.require(least)
        return principal

    def metadata(self, principal: Principal, request_id: str, further: Iterable[tuple[str, str]]) -> Metadata:
        """Return what a call of a service carries: the caller's token, the request's id, and its trace."""
        return (("authorization", f"Bearer {self._tokens.of(principal)}"), ("x-request-id", request_id), *further)


def _asked_project(headers: Mapping[str, str]) -> str:
    """Return the project that a call names, or nothing. OpenAI's SDKs send an id of OpenAI's, which is none of ours."""
    openai = text_of(headers, "openai-project")
    return text_of(headers, "modelry-project") or ("" if openai.startswith("proj_") else openai)
