"""Forms of single fields that the protos cannot say and services refuse otherwise, as JSON schema has them.

A pattern takes all that its service takes; `tests/full/test_schema.py` shows that the service takes what it allows.
"""

from typing import Any

from modelry.api_methods import SERVICES
from services.chassis.names import NAME, PAIRS

Schema = dict[str, Any]

NO_NUL = r"^[^\u0000]*$"
_SPACE = r"\s\u001c-\u001f\u0085"
"""What is a space for us: more than in a schema's own class."""
_CALL_NAME = {"pattern": rf"^[^{_SPACE}\u0000]([^\u0000]*[^{_SPACE}\u0000])?$"}
_NUMBER = "[1-9][0-9]{0,8}"
_ALIAS = "[a-z][a-z0-9-]{0,62}"
_PORT = "(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[0-5]?[0-9]{1,4}))?"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FOUR = rf"{_BYTE}(\.{_BYTE}){{3}}"
_VISIBLE = {"pattern": "^[!-~]*$"}
_BUCKET = {"pattern": "^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$"}
_FOREIGN_BUCKET = {"pattern": "^[A-Za-z0-9._-]{0,255}$"}
_KEY = {"required": ["prefix"], "properties": {"prefix": {"pattern": r"^[^/\u0000][^\u0000]*$"}}}
_DATASET = {"pattern": rf"^(dsv-[^\u0000]*|[^@\u0000]+(@({_NUMBER}|latest))?)$"}
_MODEL = {"pattern": rf"^(mv-[^\u0000]*|ft:[^\u0000]*|[^@\u0000]+(@({_NUMBER}|{_ALIAS}))?)$"}
_DATASET_VERSION = {"pattern": rf"^({_NUMBER}|dsv-[^\u0000]*|latest)$"}
_MODEL_VERSION = {"pattern": rf"^({_NUMBER}|mv-[^\u0000]*|{_ALIAS})$"}
COLUMNS = [
    "answer", "answers", "category", "class", "completion", "conversation", "conversations", "history", "input",
    "instruction", "messages", "output", "prompt", "query", "question", "reference", "references", "response",
    "std_answer", "subject", "system", "target", "tools",
]  # fmt: skip
EVENT_NOUNS = [
    "alias", "apiKey", "credential", "dataset", "datasetVersion", "deployment", "evaluation", "file", "job", "model",
    "modelVersion", "project", "stopwordList",
]  # fmt: skip
PRICE_ITEMS = ["training-minute", "evaluation-minute", "replica-hour", "input-token", "output-token"]
PURPOSES = ["fine-tune", "batch", "evals", "user_data"]


def _six() -> str:
    """Return the form of an IPv6 address with all its short forms."""
    two = "[0-9A-Fa-f]{1,4}"
    short = "|".join(rf"({two}:){{1,{7 - after}}}(:{two}){{1,{after}}}" for after in range(1, 7))
    mixed = "|".join(rf"({two}:){{1,{5 - after}}}(:{two}){{{after}}}:{_FOUR}" for after in range(5))
    plain = rf"({two}:){{7}}{two}|({two}:){{1,7}}:|{short}|:(:{two}){{1,7}}|::"
    return rf"({plain}|({two}:){{6}}{_FOUR}|::({two}:){{0,5}}{_FOUR}|{mixed})"


_HOST = rf"([A-Za-z0-9._-]+|\[{_six()}\])"
_RANGE = rf"^({_FOUR}(/(3[0-2]|[12]?[0-9]))?|{_six()}(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$"
EXACT: dict[str, Schema] = {
    "modelry.access.v1.ApiKey.addresses": {"maxItems": 100, "items": {"pattern": _RANGE}},
    "modelry.access.v1.ApiKey.models": {
        "maxItems": 100,
        "items": _CALL_NAME,
    },
    "modelry.access.v1.Credential.access_key": _VISIBLE,
    "modelry.access.v1.Credential.bucket": _BUCKET,
    "modelry.access.v1.Credential.endpoint": {"pattern": f'^(https?://{_HOST}{_PORT}(/[!"$->@-~]*)?)?$'},
    "modelry.access.v1.Credential.region": _VISIBLE,
    "modelry.admin.v1.ListDeadLettersRequest.service": {"enum": ["", *SERVICES]},
    "modelry.billing.v1.SetPriceRequest.item": {"enum": PRICE_ITEMS},
    "modelry.billing.v1.SetPriceRequest.amount": {"pattern": r"^([0-9]{1,15}(\.[0-9]{1,9})?|10{15}(\.0{1,9})?)$"},
    "modelry.dataset.v1.DatasetVersion.columns": {"propertyNames": {"enum": COLUMNS}},
    "modelry.dataset.v1.PreviewDatasetVersionRequest.page_size": {"minimum": 0, "maximum": 100},
    "modelry.dataset.v1.UploadFileRequest.filename": {"pattern": r"^[^/\u0000]+$"},
    "modelry.dataset.v1.UploadFileRequest.purpose": {"enum": ["", *PURPOSES]},
    "modelry.evaluation.v1.Generation.stop": {"maxItems": 16, "items": {"minLength": 1}},
    "modelry.evaluation.v1.StopwordList.words": {"items": {"pattern": rf"^[^\u0000]*[^{_SPACE}#\u0000][^\u0000]*$"}},
    "modelry.evaluation.v1.Target.model": _MODEL,
    "modelry.evaluation.v1.Task.Custom.dataset": _DATASET,
    "modelry.evaluation.v1.Task.name": {"pattern": r"^([\p{L}\p{N}_][\p{L}\p{N}_ .@/:+()-]*)?$"},
    "modelry.events.v1.ListEventsRequest.resource": {"enum": ["", *EVENT_NOUNS]},
    "modelry.events.v1.WatchEventsRequest.resource": {"enum": ["", *EVENT_NOUNS]},
    "modelry.registry.v1.SetAliasRequest.alias": {"pattern": f"^{_ALIAS}$"},
    "modelry.serving.v1.Deployment.model": _MODEL,
    "modelry.serving.v1.Deployment.shared_with": {"items": {"minLength": 1}},
    "modelry.training.v1.Hyperparameters.target_modules": {"items": {"pattern": "^[A-Za-z_][A-Za-z0-9_.]{0,127}$"}},
    "modelry.training.v1.Job.model": _MODEL,
    "modelry.training.v1.JobDataset.ref": _DATASET,
    "modelry.training.v1.PublishCheckpointRequest.model_name": {"pattern": f"^{NAME}$"},
    "modelry.training.v1.PublishOnSuccess.model_name": {"pattern": f"^({NAME})?$"},
}
"""Fields that are bounded for themselves, by their full name."""
NAMED: dict[str, Schema] = {
    "page_size": {"minimum": 0, "maximum": 1000},
    "suffix": {"pattern": "^[a-z0-9-]{0,64}$"},
    "metadata": {"maxProperties": PAIRS, "propertyNames": {"minLength": 1}},
}
"""Fields that mean the same everywhere."""
IN_AREA: dict[tuple[str, str], Schema] = {
    ("modelry.dataset.v1", "version"): _DATASET_VERSION,
    ("modelry.registry.v1", "version"): _MODEL_VERSION,
    ("modelry.access.v1", "bucket"): _FOREIGN_BUCKET,
    ("modelry.common.v1", "bucket"): _FOREIGN_BUCKET,
    ("modelry.dataset.v1", "bucket"): _FOREIGN_BUCKET,
}
"""Texts that mean the same in all requests of an area."""
NEW: dict[str, Schema] = {
    "modelry.access.v1.Credential": {"properties": {"access_key": {"minLength": 1}, "secret_key": {"minLength": 1}}},
    "modelry.dataset.v1.DatasetVersion": {
        "oneOf": [{"required": ["object"]}, {"required": ["file_id"]}],
        "properties": {"object": _KEY},
    },
    "modelry.registry.v1.ModelVersion": {"required": ["source"], "properties": {"source": _KEY}},
    "modelry.training.v1.Job": {
        "not": {
            "required": ["validation_dataset", "validation_ratio"],
            "properties": {"validation_ratio": {"exclusiveMinimum": 0}},
        }
    },
}
"""What a resource must hold when it is made, beside the fields that the protos require."""


def filter_pattern(fields: tuple[str, ...]) -> str:
    """Return the form of a list's filter: `field op value` of these fields, joined by AND; values differ."""
    quoted = r""""([^"\\\u0000]|\\[^\n\u0000])*"|'([^'\\\u0000]|\\[^\n\u0000])*'"""
    value = rf"({quoted}|[^{_SPACE}\"'\u0000][^{_SPACE}\u0000]*)"
    term = rf"({'|'.join(fields)})\s*(!=|<=|>=|=|<|>|:)\s*{value}"
    return rf"^\s*({term}(\s+[Aa][Nn][Dd]\s+{term})*)?\s*$"
