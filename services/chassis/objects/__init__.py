"""S3 stores, manifests of what lies in them, and the node's cache. Names are what stages import."""

from services.chassis.objects.access import StoreAccess
from services.chassis.objects.asynchronous import AsyncObjectStore
from services.chassis.objects.cache import NodeCache
from services.chassis.objects.manifest import (
    Manifest,
    ManifestFile,
    download_verified,
    file_sha256,
    missing_files,
    transfer,
    upload_folder,
)
from services.chassis.objects.rights import RIGHTS, check_rights
from services.chassis.objects.store import ListPage, ObjectInfo, ObjectStore, folder_prefix
from services.chassis.objects.stream import ObjectStream

__all__ = [
    "RIGHTS",
    "AsyncObjectStore",
    "ListPage",
    "Manifest",
    "ManifestFile",
    "NodeCache",
    "ObjectInfo",
    "ObjectStore",
    "ObjectStream",
    "StoreAccess",
    "check_rights",
    "download_verified",
    "file_sha256",
    "folder_prefix",
    "missing_files",
    "transfer",
    "upload_folder",
]
