"""A place in an object store, as the API names it. Pure: domains import it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectLocation:
    """An object, or what lies below a prefix, and the credential that opens the bucket; empty parts have defaults."""

    credential: str = ""
    bucket: str = ""
    prefix: str = ""
