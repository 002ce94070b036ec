"""Files, data sets and their versions, and how a version changes state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from services.chassis.errors import Invalid, Violation, WrongState
from services.chassis.locations import StoredFiles
from services.chassis.transitions import Failure, Transition

MAX_BAD_ROWS = 1_000_000


class State(Enum):
    """Where a version stands; PUBLISHED and FAILED are terminal."""

    IMPORTING = "IMPORTING"
    READY = "READY"
    PUBLISHED = "PUBLISHED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self in (State.PUBLISHED, State.FAILED)


class Format(Enum):
    """How rows are laid out; UNSPECIFIED is detected."""

    FORMAT_UNSPECIFIED = 0
    ALPACA = 1
    SHAREGPT = 2
    OPENAI_MESSAGES = 3
    EVALUATION_PAIRS = 4
    PROMPT_COMPLETION = 5


class BadRowPolicy(Enum):
    """What happens to a row that cannot be used."""

    REJECT = 1
    SKIP = 2


@dataclass(frozen=True)
class Source:
    """Where rows come from: an uploaded file, or objects of a bucket."""

    file_id: str = ""
    credential: str = ""
    bucket: str = ""
    prefix: str = ""

    @property
    def text(self) -> str:
        """As it is shown in causes."""
        return self.file_id or f"{self.bucket}/{self.prefix}"


@dataclass(frozen=True)
class StoredFile:
    """An uploaded file, kept byte for byte."""

    id: str
    project: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    create_time: datetime
    version: int = 1


@dataclass(frozen=True)
class Dataset:
    """A named series of versions. `last_number` is the highest number ever given out."""

    id: str
    project: str
    name: str
    title: str
    metadata: Mapping[str, str]
    last_number: int
    create_time: datetime
    update_time: datetime
    version: int = 1


@dataclass(frozen=True)
class Output:
    """What an import gave: where the canonical rows lie and what they are like.

    Attributes:
        files: on the installation's store.
        pairs: rows carry references.
        statistics_json: counts, named as in the API and more.
        identity: of the source as it was read.
        notes: things worth saying about the rows.
    """

    format: Format
    row_count: int
    bad_row_count: int
    digest: str
    files: StoredFiles
    statistics_json: str
    pairs: bool
    identity: Mapping[str, str]
    notes: tuple[str, ...] = ()


COMPLETE = Transition("complete", frozenset({State.IMPORTING}), State.READY)
FAIL = Transition("fail", frozenset({State.IMPORTING}), State.FAILED)
PUBLISH = Transition("publish", frozenset({State.READY}), State.PUBLISHED)
TRANSITIONS = (COMPLETE, FAIL, PUBLISH)


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable import of one source."""

    id: str
    project: str
    dataset_id: str
    dataset_name: str
    number: int
    state: State
    source: Source
    format: Format
    columns: Mapping[str, str]
    bad_row_policy: BadRowPolicy
    max_bad_rows: int
    draft: bool
    metadata: Mapping[str, str]
    create_time: datetime
    cause: str = ""
    finish_time: datetime | None = None
    output: Output | None = None
    failure: Failure | None = None
    bad_row_count: int = 0
    version: int = 1

    @property
    def allowed_bad_rows(self) -> int:
        """Bad rows that may be left out."""
        return self.max_bad_rows if self.bad_row_policy is BadRowPolicy.SKIP else 0

    def apply(
        self,
        transition: Transition[State],
        now: datetime,
        *,
        cause: str,
        output: Output | None = None,
        failure: Failure | None = None,
        bad_row_count: int = 0,
    ) -> DatasetVersion:
        """Return the version in its next state. Raises: WrongState: it is in none of the transition's sources."""
        transition.check(self.state, "dataset version", f"{self.dataset_name}@{self.number}")
        return replace(
            self,
            state=transition.target,
            finish_time=self.finish_time or now,
            cause=cause,
            output=output or self.output,
            failure=failure or self.failure,
            bad_row_count=bad_row_count or self.bad_row_count,
            version=self.version + 1,
        )

    def complete(self, output: Output, now: datetime) -> list[DatasetVersion]:
        """Return its states after a good import: READY, then PUBLISHED if no row was refused and it is no draft."""
        rows = f"{output.row_count} {'row' if output.row_count == 1 else 'rows'}"
        refused = f", {output.bad_row_count} left out" if output.bad_row_count else ""
        notes = f"; {'; '.join(output.notes)}" if output.notes else ""
        ready = self.apply(
            COMPLETE,
            now,
            cause=f"Imported {rows}{refused} as {output.format.name}{notes}.",
            output=output,
            bad_row_count=output.bad_row_count,
        )
        if self.draft or output.bad_row_count:
            return [ready]
        return [ready, ready.apply(PUBLISH, now, cause=f"{ready.cause} Published by itself: no row was refused.")]


@dataclass(frozen=True)
class Work:
    """The running side of an import; changes often and never changes the version of the resource.

    Attributes:
        token: fencing token, one more with each claim.
        failures: attempts in a row that broke off.
        owner: process that claimed it, empty when nobody does.
        beat: grows while the owner works.
        retry_time: not before then, after a broken attempt.
    """

    version_id: str
    token: int = 0
    failures: int = 0
    owner: str = ""
    beat: int = 0
    row_count: int = 0
    bad_row_count: int = 0
    bytes_read: int = 0
    bytes_total: int = 0
    retry_time: datetime | None = None


@dataclass(frozen=True)
class VersionView:
    """A version with the running side of its import: what is shown and watched."""

    resource: DatasetVersion
    work: Work | None = None

    @property
    def version(self) -> int:
        """That of the resource."""
        return self.resource.version


@dataclass(frozen=True)
class RefusedRow:
    """A row that an import refused. `position` is its place in the report."""

    version_id: str
    position: int
    line: int
    field: str
    code: str
    message: str
    source: str


def check_import(source: Source, policy: BadRowPolicy, max_bad_rows: int, columns: Mapping[str, str]) -> None:
    """Check that a request to import does not contradict itself. Raises: Invalid, naming the fields."""
    path = "dataset_version."
    violations = []
    if not source.file_id and not source.prefix:
        violations.append(Violation(f"{path}object.prefix", "Name the object to import, or the folder of several"))
    if source.prefix.startswith("/"):
        violations.append(Violation(f"{path}object.prefix", "A key has no leading '/'"))
    if policy is BadRowPolicy.SKIP and not 1 <= max_bad_rows <= MAX_BAD_ROWS:
        violations.append(Violation(f"{path}max_bad_rows", f"With SKIP it is 1 to {MAX_BAD_ROWS}"))
    if policy is BadRowPolicy.REJECT and max_bad_rows:
        violations.append(Violation(f"{path}max_bad_rows", "It goes with bad_row_policy SKIP only"))
    if len(set(columns.values())) != len(columns):
        violations.append(Violation(f"{path}columns", "Two of our columns are mapped to one of the source"))
    if violations:
        raise Invalid.of(violations)


def require_published(version: DatasetVersion) -> None:
    """Refuse a version that is not published: jobs and evaluations may not use it. Raises: WrongState."""
    if version.state is not State.PUBLISHED:
        ref = f"{version.dataset_name}@{version.number}"
        raise WrongState.of("dataset version", ref, "use", version.state.name, ["PUBLISHED"], reason="NOT_PUBLISHED")


def nothing_published(name: str) -> WrongState:
    """Return the refusal of a data set that has no published version."""
    return WrongState(
        f"The data set {name!r} has no published version yet: import one, or publish a READY one.",
        reason="NOT_PUBLISHED",
        metadata={"state": "", "allowed_states": "PUBLISHED"},
    )
