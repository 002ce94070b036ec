"""Which format the rows have, from their columns, a choice or a mapping; and the converter for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from services.dataset.reading.conversations import from_messages, from_sharegpt
from services.dataset.reading.problems import FileRefused, RowProblem, quote
from services.dataset.reading.records import from_alpaca, from_completion, from_pair
from services.dataset.reading.sample import Row, Sample, split_answer


class Format(Enum):
    """The formats that are read, named as in the API."""

    OPENAI_MESSAGES = "OPENAI_MESSAGES"
    SHAREGPT = "SHAREGPT"
    ALPACA = "ALPACA"
    PROMPT_COMPLETION = "PROMPT_COMPLETION"
    EVALUATION_PAIRS = "EVALUATION_PAIRS"


@dataclass(frozen=True)
class _Rule:
    """A format: the columns that it needs, their other names in order of preference, the ones it may have."""

    format: Format
    convert: Callable[[Row], Sample]
    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def match(self, columns: set[str]) -> dict[str, str] | None:
        """Map source columns to our names where they differ; None when a required one is missing."""
        renames: dict[str, str] = {}
        for names, needed in ((self.required, True), (self.optional, False)):
            for ours, others in names.items():
                column = next((name for name in (ours, *others) if name in columns), None)
                if column is None and needed:
                    return None
                if column is not None and column != ours:
                    renames[column] = ours
        return renames


# Tried in this order: the more telling columns first.
_RULES = (
    _Rule(Format.OPENAI_MESSAGES, from_messages, {"messages": ()}, {"tools": ()}),
    _Rule(Format.SHAREGPT, from_sharegpt, {"conversations": ("conversation",)}, {"system": (), "tools": ()}),
    _Rule(
        Format.ALPACA,
        from_alpaca,
        {"instruction": (), "output": ("response",)},
        {"input": (), "system": (), "history": ()},
    ),
    _Rule(Format.PROMPT_COMPLETION, from_completion, {"prompt": (), "completion": ("response",)}, {"system": ()}),
    _Rule(
        Format.EVALUATION_PAIRS,
        from_pair,
        {
            "question": ("prompt", "query", "input"),
            "references": ("reference", "answers", "answer", "std_answer", "output", "target", "response"),
        },
        {"category": ("class", "subject"), "system": ()},
    ),
)
_IGNORED = {"id"}

COLUMNS = frozenset(
    name
    for rule in _RULES
    for names in (rule.required, rule.optional)
    for ours, others in names.items()
    for name in (ours, *others)
)
"""Every name that a column mapping may use on its left side."""


@dataclass(frozen=True)
class Converter:
    """Turn decoded rows of one source into samples.

    Attributes:
        format: what the rows are.
        unused: columns of the first row that nothing reads.
    """

    format: Format
    unused: tuple[str, ...]
    _convert: Callable[[Row], Sample]
    _renames: Mapping[str, str]

    def __call__(self, row: Row) -> Sample:
        """Return the sample of a row. Raises: RowProblem, its field named as in the source."""
        renames = self._renames
        if not renames:
            sample = self._convert(row)
        else:
            renamed = {key: value for key, value in row.items() if key not in renames}
            renamed.update((ours, row[theirs]) for theirs, ours in renames.items() if theirs in row)
            try:
                sample = self._convert(renamed)
            except RowProblem as problem:
                raise self._in_source_words(problem) from problem
        identity = row.get("id")
        if identity is not None:
            sample.id = str(identity)
        return sample

    def _in_source_words(self, problem: RowProblem) -> RowProblem:
        for theirs, ours in self._renames.items():
            if problem.field == ours or problem.field.startswith((f"{ours}[", f"{ours}.")):
                field_name = theirs + problem.field[len(ours) :]
                message = problem.message.replace(f'"{problem.field}"', f'"{field_name}"')
                return RowProblem(field_name, problem.code, message)
        return problem


def choose_converter(rows: list[Row], chosen: Format | None, mapping: Mapping[str, str]) -> Converter:
    """Return the converter for a source.

    Args:
        rows: the first rows of the source, at least one.
        chosen: the format that was asked for, or None to detect it.
        mapping: our column name to the source's.

    Raises: FileRefused: UNKNOWN_COLUMNS (fields `columns` or `format`), PREFERENCE_DATA.
    """
    given = {theirs: ours for ours, theirs in mapping.items()}
    _check_mapping(rows, mapping)
    for row in rows:
        columns = {given.get(name, name) for name in row}
        if {"chosen", "rejected"} <= columns:
            raise FileRefused(
                "PREFERENCE_DATA",
                'The rows are preference data ("chosen" and "rejected"), not plain fine-tuning data: '
                'keep one answer per row, for example as the last turn of "messages".',
            )
        for rule in _RULES:
            renames = rule.match(columns)
            if renames is not None and (chosen in (None, rule.format) or _as_pairs(chosen, rule)):
                return _build(rule, chosen, renames, given, set(row))
    raise _no_format(rows[0], chosen)


def _as_pairs(chosen: Format | None, rule: _Rule) -> bool:
    return chosen is Format.EVALUATION_PAIRS and rule.format is not Format.EVALUATION_PAIRS


def _build(
    rule: _Rule, chosen: Format | None, renames: Mapping[str, str], given: Mapping[str, str], columns: set[str]
) -> Converter:
    convert = rule.convert
    if _as_pairs(chosen, rule):
        training = rule.convert

        def convert(row: Row) -> Sample:
            return split_answer(training(row))

    final = {theirs: renames.get(ours, ours) for theirs, ours in given.items()}
    final.update({theirs: ours for theirs, ours in renames.items() if theirs not in given.values()})
    final = {theirs: ours for theirs, ours in final.items() if theirs != ours}
    used = set(rule.required) | set(rule.optional) | _IGNORED
    unused = tuple(sorted(name for name in columns if final.get(name, name) not in used))
    return Converter(chosen or rule.format, unused, convert, final)


def _check_mapping(rows: list[Row], mapping: Mapping[str, str]) -> None:
    missing = [theirs for theirs in mapping.values() if not any(theirs in row for row in rows)]
    if missing:
        raise FileRefused(
            "UNKNOWN_COLUMNS",
            f"The mapping names columns that the source does not have: {', '.join(missing)}; "
            f"it has {_columns(rows[0])}.",
            field="columns",
        )


def _no_format(row: Row, chosen: Format | None) -> FileRefused:
    rules = [rule for rule in _RULES if chosen in (None, rule.format)]
    expected = "; ".join(f"{rule.format.value}: {', '.join(rule.required)}" for rule in rules)
    return FileRefused(
        "UNKNOWN_COLUMNS",
        f"No known format has the columns that were found ({_columns(row)}); expected {expected}. "
        "Name them with a column mapping, such as instruction=... and output=...",
        field="columns" if chosen is None else "format",
    )


def _columns(row: Row) -> str:
    return ", ".join(name if name.isprintable() else quote(name) for name in list(row)[:20]) or "none"
