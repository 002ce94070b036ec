"""`modelry up`, `down`, `status`, `config`, `doctor`, `env`: what the server distribution adds to the command line."""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.local.home import CannotStart, Home

NOT_REACHABLE = 4
F = TypeVar("F", bound=Callable[..., Any])


def home_option(function: F) -> F:
    """`--home DIR`, on every command here."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="MODELRY_HOME",
        default=Path("~/.modelry"),
        show_default=True,
        callback=_known_folder,
        help="Folder of the installation.",
    )(function)


def _known_folder(_context: click.Context, _option: click.Parameter, home: Path) -> Path:
    """Return the folder, absolute. A user without a name has no `~` where HOME is not set."""
    try:
        return home.expanduser().absolute()
    except RuntimeError:
        raise click.BadParameter(f"there is no {home}, since HOME is not set: name a folder") from None


@click.command()
@home_option
@click.option("--port", type=click.IntRange(1, 65535), help="HTTP port; kept for later starts.  [first start: 8080]")
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="gRPC port.  [first start: 8081]")
@click.option("--nats-port", type=click.IntRange(1, 65535), help="NATS port.  [first start: 4222]")
@click.option("--host", default="", help="Address of both doors; beyond loopback with TLS.  [first start: 127.0.0.1]")
@click.option("--detach", is_flag=True, help="Return once it is ready and leave it running.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds within which all must be ready.")
def up(
    home: Path,
    port: int | None,
    grpc_port: int | None,
    nats_port: int | None,
    host: str,
    detach: bool,
    timeout: float,
) -> None:
    """Start the embedded stack and wait until it is ready."""
    from deploy.local.serve import serve, serve_detached
    from deploy.local.supervisor import Options

    options = Options(ports={"http": port, "grpc": grpc_port, "nats": nats_port}, host=host, ready_seconds=timeout)
    try:
        if detach:
            serve_detached(home, options, announce)
        else:
            serve(home, options, announce)
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


def announce(home: Home, state: dict[str, Any]) -> None:
    """Tell where it answers and where the key is."""
    addresses = state["addresses"]
    click.echo(f"Modelry {state['version']} is up.")
    click.echo(f"  HTTP       {addresses['http']}")
    click.echo(f"  gRPC       {addresses['grpc']}")
    click.echo(f"  NATS       {addresses['nats']}")
    click.echo(f"  admin key  {home.admin_key_file}")


@click.command()
@home_option
def down(home: Path) -> None:
    """Stop everything; no job changes its state, and the next `up` goes on."""
    from deploy.local.serve import end_everything

    ended = asyncio.run(end_everything(Home(home)))
    click.echo("Modelry is down." if ended else "Nothing was running.")


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(home: Path, as_json: bool) -> None:
    """List addresses, versions and processes. Ends with 0 when all is ready, 1 when not, 4 when nothing runs."""
    from deploy.local.status import get_status, table

    result = asyncio.run(get_status(Home(home)))
    click.echo(json.dumps(result, indent=2) if as_json else table(result))
    if not result["ready"]:
        sys.exit(1 if result["running"] else NOT_REACHABLE)


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(home: Path, as_json: bool) -> None:
    """Print the settings in force with their source; secrets are masked."""
    from deploy.local.effective import effective_settings

    try:
        rows = effective_settings(Home(home))
    except CannotStart as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['service']}.{row['name']} = {row['value']}  # {row['source']}")


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(home: Path, as_json: bool) -> None:
    """Check this machine and the installation. Ends with 1 when something must be put right."""
    from deploy.local.doctor import examine

    findings = asyncio.run(examine(Home(home)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:5} {finding.name:12} {finding.words}")
    if any(finding.verdict == "bad" for finding in findings):
        sys.exit(1)


@click.command()
@home_option
def env(home: Path) -> None:
    """Print shell lines that point clients here: eval "$(modelry env)"."""
    from services.chassis.launch import without_proxy

    result = Home(home)
    addresses = result.state().get("addresses")
    if not addresses or not result.admin_key_file.exists():
        raise click.ClickException(f"{result.path} was never started: modelry up --home {result.path}")
    key = result.admin_key_file.read_text(encoding="utf-8").strip()
    values = {
        "MODELRY_HOME": str(result.path),
        "MODELRY_URL": addresses["http"],
        "MODELRY_API_KEY": key,
        "OPENAI_BASE_URL": f"{addresses['http']}/v1",
        "OPENAI_API_KEY": key,
    }
    if any(name.lower().endswith("_proxy") for name in os.environ):  # other clients ask a proxy for 127.0.0.1 too
        values["no_proxy"] = values["NO_PROXY"] = without_proxy(os.environ)
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def main() -> None:
    """`python -m deploy.local`: the same commands without the client."""
    group = click.Group(commands=[up, down, status, config, doctor, env])
    group(prog_name="python -m deploy.local", args=sys.argv[1:] or ["--help"])
