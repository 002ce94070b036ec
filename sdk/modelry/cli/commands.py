"""Commands written by hand: what needs more than one call, or a conversation."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from modelry.cli import outputs
from modelry.cli.inputs import connection_options, location
from modelry.client import Client
from modelry.connection import Connection
from modelry.direct import open_url

CHAT_SECONDS = 600.0


@connection_options
@click.command("import")
@click.argument("name")
@click.argument("source")
@click.option(
    "--format", "layout", help="alpaca, sharegpt, openai-messages, evaluation-pairs; detected when not given."
)
@click.option("--max-bad-rows", type=int, default=0, help="Leave out up to this many bad rows instead of refusing.")
@click.option("--draft", is_flag=True, help="Do not publish by itself.")
@click.option("--no-wait", is_flag=True, help="Return at once.")
def import_dataset(
    name: str,
    source: str,
    layout: str,
    max_bad_rows: int,
    draft: bool,
    no_wait: bool,
    home: str,
    in_project: str,
    as_json: bool,
) -> int:
    """Make a version of the data set NAME (made if new) from SOURCE.

    SOURCE is a file of this machine, an uploaded file's id, or [CREDENTIAL:]BUCKET/PREFIX.
    """
    with Client(home=home, project=in_project) as client:
        version: dict[str, Any] = {"draft": draft}
        if Path(source).is_file():
            version["file_id"] = client.upload(source).id
        elif source.startswith("file-"):
            version["file_id"] = source
        else:
            version["object"] = location(source)
        if layout:
            version["format"] = layout
        if max_bad_rows:
            version |= {"bad_row_policy": "SKIP", "max_bad_rows": max_bad_rows}
        created = client.create_dataset_version(dataset=name, dataset_version=version, create_dataset=True)
        if not no_wait:
            created = outputs.follow(
                client.watch_dataset_version(dataset=created.dataset_id, version=created.id), as_json
            )
        outputs.show(created, as_json)
        if outputs.state_of(created) == "FAILED" and not as_json:
            _show_bad_rows(client, created)
        return outputs.exit_code(created) if not no_wait else outputs.EXIT_OK


def _show_bad_rows(client: Client, version: Any) -> None:
    page = client.list_row_errors(dataset=version.dataset_id, version=version.id, page_size=10)
    for row in page.row_errors:
        click.echo(f"  line {row.line}  {row.field}  {row.code}: {row.message}", err=True)
    if page.total_count > len(page.row_errors):
        click.echo(f"  … and {page.total_count - len(page.row_errors)} more", err=True)


@connection_options
@click.command("tail")
@click.option("--resource", default="", help="Only this noun, for example job.")
@click.option("--id", "resource_id", default="", help="Only this resource.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest kept.")
def tail_events(resource: str, resource_id: str, from_start: bool, home: str, in_project: str, as_json: bool) -> int:
    """Print events as they happen."""
    with Client(home=home, project=in_project) as client:
        changes = client.watch_events(resource=resource, id=resource_id, after=-1 if from_start else 0)
        if as_json:
            outputs.stream(changes, as_json=True)
            return outputs.EXIT_OK
        for event in changes:
            time = event.create_time.ToDatetime().strftime("%H:%M:%S")
            click.echo(f"{time}  {event.resource} {event.resource_id}  {event.happening}  {event.data.cause}")
    return outputs.EXIT_OK


@connection_options
@click.command()
@click.argument("name")
@click.argument("question", required=False)
@click.option("--system", default="", help="System prompt.")
@click.option("--max-tokens", type=int, default=512, show_default=True)
@click.option("--temperature", type=float, default=None, help="Sampling temperature.  [the model's]")
def chat(
    name: str, question: str | None, system: str, max_tokens: int, temperature: float | None,
    home: str, in_project: str, as_json: bool,
) -> int:  # fmt: skip
    """Talk to a deployment; with QUESTION ask once. An empty line or Ctrl-D ends."""
    with Client(home=home, project=in_project) as client:
        connection = client.connection
    history = [{"role": "system", "content": system}] if system else []
    body: dict[str, Any] = {"model": name, "max_tokens": max_tokens, "stream": True}
    if temperature is not None:
        body["temperature"] = temperature
    while True:
        text = question if question is not None else _ask_line()
        if not text:
            return outputs.EXIT_OK
        history.append({"role": "user", "content": text})
        answer = ""
        for piece in _stream_chat(connection, {**body, "messages": history}):
            answer += piece
            if not as_json:
                click.echo(piece, nl=False)
        click.echo(json.dumps({"answer": answer}, ensure_ascii=False) if as_json else "")
        history.append({"role": "assistant", "content": answer})
        if question is not None:
            return outputs.EXIT_OK


def _ask_line() -> str:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        click.echo("")
        return ""


def _stream_chat(connection: Connection, body: dict[str, Any]) -> Iterator[str]:
    """Yield the pieces of an answer. Raises: ClickException with the server's words."""
    headers = {"Authorization": f"Bearer {connection.key}", "Content-Type": "application/json"}
    if connection.project:
        headers["modelry-project"] = connection.project
    url = f"{connection.http_address}/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the user's own address
    try:
        with open_url(request, CHAT_SECONDS, direct=connection.direct, context=connection.ssl_context) as answer:
            for line in answer:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                data = json.loads(line[6:])
                if "error" in data:
                    raise click.ClickException(data["error"]["message"])
                yield from (choice["delta"].get("content") or "" for choice in data["choices"])
                sys.stdout.flush()
    except urllib.error.HTTPError as error:
        try:
            message = json.load(error)["error"]["message"]
        except (ValueError, KeyError):
            message = f"The server answered {error.code}."
        raise click.ClickException(message) from None
    except OSError as error:
        raise click.ClickException(f"nothing answers at {connection.http_address}: {error}") from None


HANDMADE: dict[str, click.Command] = {
    "chat": chat,
    "datasets import": import_dataset,
    "events tail": tail_events,
}
