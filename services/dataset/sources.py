"""Where rows come from: finds the objects of a source, and says clearly which field is wrong when there are none."""

from dataclasses import replace
from functools import partial

from services.chassis.errors import Invalid, ModelryError
from services.chassis.objects import ForeignStores, ListPage, StoreAccess
from services.clients.credentials import CredentialClient, open_location
from services.dataset.domain import Source
from services.dataset.object_sources import ObjectSource, find_objects, named, open_store

_TOKEN_CODES = ("InvalidToken", "InvalidArgument")
"""What stores say of a page token that they did not give out."""


class Sources:
    """Open the sources that requests name, with the credentials of their project."""

    def __init__(self, credentials: CredentialClient, system: StoreAccess, bucket: str) -> None:
        """Args: system, bucket: the installation's store, where uploaded files and canonical rows lie."""
        self.system = system
        self.bucket = bucket
        self._credentials = credentials
        self._foreign = ForeignStores()

    async def check(self, project: str, source: Source) -> Source:
        """Return the source with its bucket filled in, once something was found there.

        Raises: NotFound, Invalid: naming the field under `dataset_version.object`; Unavailable: the installation's
            own store does not answer.
        """
        place = await self.place(project, source, "dataset_version.object")
        store = open_store(place.access, patient=False)
        try:
            await self._foreign.run(project, place.access, lambda: find_objects(store, place.bucket, place.prefix))
        except ModelryError as error:
            raise named(error, "dataset_version.object.", own=place.access == self.system) from error
        return replace(source, bucket=place.bucket)

    async def place(self, project: str, source: Source, path: str = "object") -> ObjectSource:
        """Return how to open a source. Raises: NotFound: no such credential. Invalid: it is not for this bucket."""
        opened = await open_location(self._credentials, project, source.credential, source.bucket, path)
        return ObjectSource(opened.access, opened.bucket, source.prefix)

    def uploaded(self, key: str, filename: str) -> ObjectSource:
        """Return how to open an uploaded file."""
        return ObjectSource(self.system, self.bucket, key, filename)

    async def browse(
        self, project: str, credential: str, bucket: str, prefix: str, page_size: int, token: str
    ) -> ListPage:
        """Return a page of the objects and folders directly below a prefix.

        Raises: NotFound, Invalid: naming the field.
        """
        place = await self.place(project, Source(credential=credential, bucket=bucket, prefix=prefix), "")
        store = open_store(place.access, patient=False)
        try:
            page = partial(store.list_page, place.bucket, prefix, delimiter="/", page_size=page_size, token=token)
            return await self._foreign.run(project, place.access, page)
        except ModelryError as error:
            if token and error.metadata.get("code") in _TOKEN_CODES:
                raise Invalid("page_token is not one that this list gave out.", field="page_token") from error
            raise named(error, "", own=place.access == self.system) from error
