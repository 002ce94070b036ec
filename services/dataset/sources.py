"""Where rows come from: finds the objects of a source, and says clearly which field is wrong when there are none."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from modelry.access.v1 import internal_pb2 as access_pb2
from services.chassis.errors import Invalid, ModelryError, NotFound
from services.chassis.objects import ListPage, StoreAccess
from services.chassis.rpc import Peers
from services.dataset.domain import Source
from services.dataset.object_sources import Place, find_objects, named, open_store

BUILTIN = "builtin"


class Sources:
    """Opens the sources that requests name, with the credentials of their project."""

    def __init__(self, peers: Peers, system: StoreAccess, bucket: str) -> None:
        """Args: system, bucket: the installation's store, where uploaded files and canonical rows lie."""
        self.system = system
        self.bucket = bucket
        self._peers = peers

    async def check(self, project: str, source: Source) -> Source:
        """The source with its bucket filled in, once something was found there.

        Raises: NotFound, Invalid: naming the field under `dataset_version.object`; Unavailable: the installation's
            own store does not answer.
        """
        place = await self.place(project, source, "dataset_version.object.")
        store = open_store(place.access, patient=False)
        try:
            await asyncio.to_thread(find_objects, store, place.bucket, place.prefix)
        except ModelryError as error:
            raise named(error, "dataset_version.object.", own=place.access == self.system) from error
        return replace(source, bucket=place.bucket)

    async def place(self, project: str, source: Source, path: str = "object.") -> Place:
        """How to open a source.

        Raises: NotFound: no such credential. Invalid: it is not for this bucket.
        """
        resolved = await self._resolve(project, source.credential, source.bucket, path)
        access = StoreAccess(resolved.endpoint, resolved.access_key, resolved.secret_key, resolved.region)
        if not resolved.bucket:
            raise Invalid(f"{path}bucket is required with this credential", field=f"{path}bucket")
        return Place(access, resolved.bucket, source.prefix)

    def uploaded(self, key: str, filename: str) -> Place:
        """How to open an uploaded file."""
        return Place(self.system, self.bucket, key, filename)

    async def browse(
        self, project: str, credential: str, bucket: str, prefix: str, page_size: int, token: str
    ) -> ListPage:
        """A page of the objects and folders directly below a prefix.

        Raises: NotFound, Invalid: naming the field.
        """
        place = await self.place(project, Source(credential=credential, bucket=bucket, prefix=prefix), "")
        store = open_store(place.access, patient=False)
        try:
            return await asyncio.to_thread(
                store.list_page, place.bucket, prefix, delimiter="/", page_size=page_size, token=token
            )
        except ModelryError as error:
            raise named(error, "", own=place.access == self.system) from error

    async def _resolve(self, project: str, credential: str, bucket: str, path: str) -> access_pb2.ResolvedCredential:
        request = access_pb2.ResolveCredentialRequest(credential=credential, bucket=bucket)
        try:
            return await self._peers.access_internal.ResolveCredential(request, metadata=self._peers.metadata(project))
        except NotFound as error:
            name = credential or BUILTIN
            raise NotFound(
                f"{path}credential: there is no credential {name!r} in this project.",
                metadata={**error.metadata, "field": f"{path}credential"},
            ) from error
        except Invalid as error:
            raise Invalid(error.message, field=f"{path}bucket", reason=error.reason) from error
