"""Places in object stores, as the API names them and as services keep them. Pure: domains import it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectLocation:
    """An object, or what lies below a prefix, and the credential that opens the bucket; empty parts have defaults."""

    credential: str = ""
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True)
class StoredFiles:
    """Files below one prefix of a bucket, with the manifest that lists them.

    `manifest_json` is the text of a `Manifest`, empty while nothing is written. `credential` is the credential's id,
    empty for the installation's own store.
    """

    bucket: str
    prefix: str
    manifest_json: str
    credential: str = ""
