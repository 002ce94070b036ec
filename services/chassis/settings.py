"""Typed settings of a process, each from the nearest place that names it; a wrong one stops the start by name.

A service adds its own fields and loads them once, in its `__main__`:

    class TrainingSettings(Settings):
        parallel_jobs: int = Field(1, ge=1, description="jobs that run at once")

    settings = load(TrainingSettings, service="training")

Field `parallel_jobs` of service `training` is looked up as environment `MODELRY_TRAINING_PARALLEL_JOBS`, then
`MODELRY_PARALLEL_JOBS`, then `[training] parallel_jobs` of `HOME/modelry.toml`, then `parallel_jobs` at its top, then
(secrets only) the file `HOME/secrets/parallel_jobs`, then the default.
"""

import json
import os
import ssl
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from services.chassis.listening import split_address

PREFIX = "MODELRY_"
DEFAULT_HOME = Path("~/.modelry")


class StartError(SystemExit):
    """The process cannot start; `message` says why and has been printed. Ends the process with code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message

    def __str__(self) -> str:
        return self.message


def refuse_start(message: str) -> NoReturn:
    """Print one line on stderr and end the process with code 2."""
    print(message.replace("\n", " "), file=sys.stderr, flush=True)
    raise StartError(message)


class Settings(BaseModel):
    """What every process has. All windows are seconds, and settings so that tests can make them short.

    Built directly (in tests) it takes only what it is given; `load` looks into the environment and the files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str = Field("", description="name of the process: `training`, `gateway`, …")
    home: Path = Field(DEFAULT_HOME, description="folder of everything that an installation writes on this machine")
    listen: str = Field("127.0.0.1:0", description="address of the gRPC server; port 0 takes a free one")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level that is logged")
    otlp_endpoint: str = Field("", description="OTLP/HTTP collector of traces and metrics; empty sends none")

    database_url: str = Field("", description="`sqlite:///…` or `postgresql://…`; empty is a file below `HOME/data`")
    nats_url: str = Field("nats://127.0.0.1:4222", description="address of NATS, several separated by commas")
    nats_user: str = Field("services", description="user at NATS")
    nats_password: SecretStr = Field(SecretStr(""), description="password at NATS")
    objects_endpoint: str = Field("", description="URL of the installation's own object store")
    objects_access_key: str = Field("", description="access key of the object store")
    objects_secret_key: SecretStr = Field(SecretStr(""), description="secret key of the object store")
    objects_bucket: str = Field("modelry", description="bucket of the installation's own files")
    objects_region: str = Field("us-east-1", description="region of the object store")
    ca_file: str = Field(
        "",
        description="PEM file with the certificates of a private authority that signs those of object stores; they "
        "count beside the well-known ones, for services and workers",
    )
    local_stores: tuple[str, ...] = Field(
        (),
        description="what the endpoint of a credential may be although it is this machine, its link or one of our own "
        "ports: hosts, addresses or networks, each with a port or without (`127.0.0.1:9000`, `10.0.0.0/8`); the "
        "installation's own store always may",
    )
    token_secret: SecretStr = Field(SecretStr(""), description="signs the tokens that services show one another")
    vault_key: SecretStr = Field(
        SecretStr(""), description="encrypts stored secrets: 32 bytes in base64; older keys after commas"
    )

    duplicate_window_seconds: float = Field(
        3600, gt=0, description="how long NATS remembers the id of a published event, so that a repeat is dropped"
    )
    lease_seconds: float = Field(30, gt=0, description="an attempt without a heartbeat for so long is lost")
    heartbeat_seconds: float = Field(5, gt=0, description="how often a worker says that it is alive")
    hold_seconds: float = Field(600, gt=0, description="a hold on a version that nobody confirms ends after so long")
    request_days: float = Field(7, gt=0, description="how long a create with the same request id is answered again")
    reconcile_seconds: float = Field(1, gt=0, description="longest pause between two rounds of a control loop")
    probe_seconds: float = Field(5, gt=0, description="how often readiness looks at the database and the store")

    ack_wait_seconds: float = Field(10, gt=0, description="NATS sends an event again that is not acknowledged so long")
    handler_seconds: float = Field(120, gt=0, description="longest run of an event's handler")
    retry_min_seconds: float = Field(1, gt=0, description="first delay before something that failed is tried again")
    retry_max_seconds: float = Field(60, gt=0, description="longest delay before something is tried again")
    surprise_tries: int = Field(10, ge=1, description="an event whose handler breaks so often becomes a dead letter")
    reconnect_max_seconds: float = Field(1, gt=0, description="longest pause between two attempts to reach NATS")
    publish_seconds: float = Field(5, gt=0, description="how long the relay waits for NATS to confirm an event")
    resend_seconds: float = Field(
        600, gt=0, description="published events younger than this are sent again to a new NATS"
    )
    compare_seconds: float = Field(
        60, gt=0, description="how often keys and routes in NATS are compared with the database"
    )
    events_days: float = Field(30, gt=0, description="how long events are kept")
    events_bytes: int = Field(10 << 30, gt=0, description="most bytes that the stream of events takes")
    work_days: float = Field(7, gt=0, description="how long reports of workers are kept")
    work_bytes: int = Field(2 << 30, gt=0, description="most bytes that the stream of reports takes")

    @field_validator("listen", "http_listen", "grpc_listen", check_fields=False)
    @classmethod
    def _address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("ca_file")
    @classmethod
    def _read_authorities(cls, path: str) -> str:
        """Refuse a file that the S3 library could not read: it would say so at each request and not at the start."""
        if path:
            try:
                ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path} holds no certificates that can be read: {error}") from error
        return path

    @model_validator(mode="after")
    def _fill(self) -> Self:
        """Make the home absolute and put the default database below it. (`frozen` is for those who come later.)"""
        home = self.home.expanduser().absolute()
        self.__dict__["home"] = home
        if not self.database_url:
            path = f"{home}/data/{self.service or 'modelry'}.db".replace("%", "%25").replace("?", "%3F")
            self.__dict__["database_url"] = f"sqlite:///{path}"
        return self


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Found:
    """A setting as it is in force: its value as text (secrets masked) and the place that it came from."""

    name: str
    value: str
    source: str


class Lookup:
    """Find the value of each field of a settings class, and remember where."""

    def __init__(self, cls: type[Settings], service: str, environ: Mapping[str, str]) -> None:
        self.cls, self.service, self.environ = cls, service, environ
        self.home = Path(environ.get(f"{PREFIX}HOME") or DEFAULT_HOME).expanduser().absolute()
        self.path = self.home / "modelry.toml"
        self.table = self._read()
        own = self.table.get(service, {})
        self.own: dict[str, Any] = own if isinstance(own, dict) else {}
        self.values: dict[str, Any] = {"service": service, "home": self.home}
        self.sources: dict[str, str] = {}

    def _read(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
            refuse_start(f"{self.path} cannot be read: {error}")

    def all(self) -> dict[str, Any]:
        """Return the values found, by field."""
        self._refuse_unknown()
        for name, field in self.cls.model_fields.items():
            place = next(self.places(name, field), None)
            if place is not None and name not in ("service", "home"):
                self.values[name], self.sources[name] = place
        return self.values

    def places(self, name: str, field: FieldInfo | None = None) -> Iterator[tuple[Any, str]]:
        """Yield the values of a field with the places that name it, the nearest first."""
        for variable in (f"{PREFIX}{self.service}_{name}".upper(), f"{PREFIX}{name}".upper()):
            if variable in self.environ:
                yield _parse(self.environ[variable]), variable
        if name in self.own:
            yield self.own[name], f"[{self.service}] {name} in {self.path}"
        if name in self.table:
            yield self.table[name], f"{name} in {self.path}"
        secret = self.home / "secrets" / name
        if field is not None and field.annotation is SecretStr and secret.is_file():
            yield secret.read_text("utf-8").strip(), str(secret)

    def _refuse_unknown(self) -> None:
        """Refuse unknown names in the service's own places: a mistyped one would silently be the default."""
        known = self.cls.model_fields
        for key in self.own:
            if key not in known:
                refuse_start(f"{self.path}: [{self.service}] has no setting {key!r}.")
        prefix = f"{PREFIX}{self.service}_".upper()
        for key in self.environ:
            names = {key.removeprefix(prefix).lower(), key.removeprefix(PREFIX).lower()}
            if self.service and key.startswith(prefix) and not names & known.keys():
                refuse_start(f"{key} is not a setting of {self.service}.")


def _parse(text: str) -> Any:
    """Parse a value: lists and tables are JSON in the environment; everything else is text that its type reads."""
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def load(cls: type[S], service: str, environ: Mapping[str, str] | None = None) -> S:
    """Return the settings of a service's process. A wrong value prints one line that names it and ends with code 2."""
    lookup = Lookup(cls, service, os.environ if environ is None else environ)
    try:
        return cls(**lookup.all())
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        source = lookup.sources.get(name, f"{PREFIX}{name}".upper())
        refuse_start(f"{source}: {first['msg']} (setting {name}).")


def explain(cls: type[Settings], service: str, environ: Mapping[str, str] | None = None) -> list[Found]:
    """Return every setting of a service in force, with its source; secrets are masked."""
    settings = load(cls, service, environ)
    lookup = Lookup(cls, service, os.environ if environ is None else environ)
    lookup.all()
    result = []
    for name in cls.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = "********" if value.get_secret_value() else ""
        result.append(Found(name, str(value), lookup.sources.get(name, "default")))
    return result
