"""What is shown: tables for people, JSON for programs, progress for long work."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click
from google.protobuf.message import Message
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from modelry.codec import encode

SHOWN_FIRST = ("id", "name", "filename", "number", "state", "model", "replicas", "ready_replicas", "kind", "cause")
MOST_COLUMNS = 7
FAILED_STATES = ("FAILED", "FAILING")
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED, EXIT_NOT_REACHABLE = 0, 1, 2, 3, 4
console = Console()
errors = Console(stderr=True)


def show(message: Message, as_json: bool) -> None:
    """One resource: JSON, or its fields that say something."""
    data = encode(message)
    if as_json:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    rows = [(name, value) for name, value in data.items() if value not in ("", 0, 0.0, False, None, [], {})]
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows:
        table.add_row(f"[bold]{name}", _cell(value))
    console.print(table) if rows else console.print("Done.")


def show_list(items: Iterable[Message], as_json: bool) -> None:
    """Resources: one JSON list, or a table."""
    data = [encode(item) for item in items]
    if as_json:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
        return
    if not data:
        console.print("None.")
        return
    names = [name for name in SHOWN_FIRST if name in data[0]]
    names += [name for name in data[0] if name not in names and not isinstance(data[0][name], dict | list)]
    table = Table(*names[:MOST_COLUMNS], box=None, header_style="bold", pad_edge=False)
    for row in data:
        table.add_row(*(_cell(row.get(name, "")) for name in names[:MOST_COLUMNS]))
    console.print(table)


def stream(items: Iterator[Message], as_json: bool) -> None:
    """A stream: a line for each message."""
    for item in items:
        data = encode(item)
        if as_json:
            click.echo(json.dumps(data, ensure_ascii=False))
        elif "text" in data:
            click.echo(data["text"])
        else:
            words = (f"{name}={_cell(value)}" for name, value in data.items() if value not in ("", 0, {}, [], None))
            click.echo("  ".join(words))
        sys.stdout.flush()


def _cell(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 100 else text[:97] + "…"


def follow(items: Iterator[Any], as_json: bool) -> Any:
    """Follow a resource to its end with a progress bar on a terminal. Returns: its last message."""
    last = None
    if as_json or not console.is_terminal:
        state = ""
        for last in items:
            word = state_of(last)
            if word != state and not as_json:
                console.print(f"{last.id}  {word}  {last.cause}")
            state = word
        return last
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("…", total=None, note="")
        for last in items:
            done, total, note = _progress_of(last)
            progress.update(task, description=state_of(last), completed=done, total=total or None, note=note)
    return last


def state_of(message: Any) -> str:
    """Return the word of a resource's state."""
    field = message.DESCRIPTOR.fields_by_name["state"]
    return str(field.enum_type.values_by_number[message.state].name)


def _progress_of(message: Any) -> tuple[float, float, str]:
    """(done, total, note) of any resource that has progress of some form."""
    names = message.DESCRIPTOR.fields_by_name
    if "bytes_total" in names:
        return message.bytes_read, message.bytes_total, f"{message.row_count} rows, {message.bad_row_count} bad"
    if "ready_replicas" in names:
        return message.ready_replicas, message.replicas, f"{message.ready_replicas} of {message.replicas} ready"
    if "progress" not in names:
        return 0, 0, getattr(message, "cause", "")
    shown = message.progress
    if hasattr(shown, "total_steps"):
        return shown.step, shown.total_steps, f"step {shown.step} of {shown.total_steps}  loss {shown.loss:.4f}"
    return shown.done, shown.total, f"{shown.phase} {shown.done} of {shown.total}"


def exit_code(message: Any) -> int:
    """Return how a followed resource ended, as a process says it."""
    state = state_of(message)
    if state == "STOPPED":
        return EXIT_STOPPED
    if state in FAILED_STATES:
        errors.print(f"[red]{message.id} {state}:[/] {message.failure.message or message.cause}")
        return EXIT_FAILED
    return EXIT_OK
