"""What an attempt is told to do: the `work` part of its spec, as values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

SMALL_MODEL_PARAMETERS = 500_000_000
SMALL_MODEL_RATE = 1e-3
LARGE_MODEL_RATE = 2e-4


@dataclass(frozen=True)
class Stored:
    """Files in the object store: where, and the manifest that says which."""

    bucket: str
    prefix: str
    manifest: Mapping[str, Any]

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "Stored":
        """Read the three fields that every stored thing has."""
        return cls(str(content["bucket"]), str(content["prefix"]), content["manifest"])


@dataclass(frozen=True)
class BaseModel:
    """The model that is tuned. ``chat_fingerprint`` is empty when nobody recorded one."""

    files: Stored
    version_id: str
    digest: str
    chat_fingerprint: str


@dataclass(frozen=True)
class Source:
    """A data set: at most ``max_samples`` rows in the seeded order (0: all), each ``weight`` times an epoch."""

    files: Stored
    file: str
    version_id: str
    max_samples: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Hyperparameters:
    """How to train; names, units and defaults are those of the API's message of the same name."""

    learning_rate: float = 0.0
    epochs: float = 3.0
    batch_size: int = 8
    gradient_accumulation: int = 1
    compute_type: str = "BF16"
    checkpoint_interval: int = 0
    logging_interval: int = 1
    cutoff_length: int = 2048
    lr_scheduler: str = "COSINE"
    warmup_ratio: float = 0.05
    flash_attention: str = "AUTO"
    lora_rank: int = 8
    lora_alpha: int = 0
    lora_dropout: float = 0.0
    lora_plus_ratio: float = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    neftune_alpha: float = 0.0
    target_modules: tuple[str, ...] = ()
    deepspeed_stage: int = 1
    early_stopping_patience: int = 0
    seed: int = 42

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "Hyperparameters":
        """Read what the service sends. An absent field, and a zero that means nothing, is its default.

        Raises: ValueError: a value is of the wrong type or an unknown word.
        """
        zero_counts = {"warmup_ratio", "max_gradient_norm", "seed"}  # for these alone zero is a wish
        values: dict[str, Any] = {}
        for known in fields(cls):
            value = content.get(known.name)
            if value is None or (not value and known.name not in zero_counts):
                continue
            default: Any = known.default
            if isinstance(default, str):
                values[known.name] = str(value).upper()
            else:
                values[known.name] = type(default)(value)
        made = cls(**values)
        _check_word("compute_type", made.compute_type, ("BF16", "FP16", "FP32"))
        _check_word("lr_scheduler", made.lr_scheduler, ("COSINE", "LINEAR", "CONSTANT"))
        _check_word("flash_attention", made.flash_attention, ("AUTO", "DISABLED", "FA2"))
        return made

    @property
    def alpha(self) -> int:
        """Scale of the adapter: twice the rank unless said otherwise."""
        return self.lora_alpha or 2 * self.lora_rank

    def rate(self, parameter_count: int) -> float:
        """Peak learning rate, chosen by the size of the model when it was left open."""
        if self.learning_rate:
            return self.learning_rate
        return SMALL_MODEL_RATE if parameter_count < SMALL_MODEL_PARAMETERS else LARGE_MODEL_RATE


@dataclass(frozen=True)
class Work:
    """All that one attempt is to do."""

    job_id: str
    attempt: int
    model: BaseModel
    datasets: tuple[Source, ...]
    validation: Source | None
    validation_ratio: float
    hyperparameters: Hyperparameters
    world_size: int
    output_bucket: str
    output_prefix: str
    resume: Stored | None = None
    source_ids: tuple[str, ...] = field(default=())

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> "Work":
        """Read a whole spec.json. Raises: KeyError, ValueError: it is not one that this program understands."""
        work = spec["work"]
        model, output, resume = work["model"], work["output"], work.get("resume")
        given = dict(work.get("hyperparameters") or {})
        if work.get("seed") is not None:
            given.setdefault("seed", work["seed"])
        datasets = tuple(_source(item) for item in work["datasets"])
        return cls(
            job_id=str(spec["job_id"]),
            attempt=int(spec["attempt"]),
            model=BaseModel(
                files=Stored.parse(model),
                version_id=str(model["version_id"]),
                digest=str(model.get("digest") or ""),
                chat_fingerprint=str(model.get("chat_fingerprint") or ""),
            ),
            datasets=datasets,
            validation=_source(work["validation"]) if work.get("validation") else None,
            validation_ratio=float(work.get("validation_ratio") or 0.0),
            hyperparameters=Hyperparameters.parse(given),
            world_size=int(work.get("world_size") or given.get("world_size") or 1),
            output_bucket=str(output["bucket"]),
            output_prefix=str(output["prefix"]),
            resume=Stored.parse(resume) if resume else None,
            source_ids=tuple(source.version_id for source in datasets),
        )


def _source(content: Mapping[str, Any]) -> Source:
    return Source(
        files=Stored.parse(content),
        file=str(content.get("file") or "data.parquet"),
        version_id=str(content.get("version_id") or ""),
        max_samples=int(content.get("max_samples") or 0),
        weight=float(content.get("weight") or 1.0),
    )


def _check_word(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(known)}")
