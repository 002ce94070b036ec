"""S3 stores, manifests of what lies in them, and the node's cache."""

from services.chassis.locations import StoredFiles
from services.chassis.objects.access import StoreAccess
from services.chassis.objects.access_check import check_rights
from services.chassis.objects.addresses import ForeignRules
from services.chassis.objects.asynchronous import AsyncObjectStore
from services.chassis.objects.cache import NodeCache
from services.chassis.objects.foreign import ForeignStores
from services.chassis.objects.manifest import (
    Manifest,
    ManifestFile,
    ManifestJson,
    missing_files,
    transfer,
    upload_folder,
)
from services.chassis.objects.store import ListPage, ObjectInfo, ObjectStore, folder_prefix

__all__ = [
    "AsyncObjectStore",
    "ForeignRules",
    "ForeignStores",
    "ListPage",
    "Manifest",
    "ManifestFile",
    "ManifestJson",
    "NodeCache",
    "ObjectInfo",
    "ObjectStore",
    "StoreAccess",
    "StoredFiles",
    "check_rights",
    "folder_prefix",
    "missing_files",
    "transfer",
    "upload_folder",
]
