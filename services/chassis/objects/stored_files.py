"""Where a thing's files lie and which they are."""

from __future__ import annotations

from dataclasses import dataclass


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
