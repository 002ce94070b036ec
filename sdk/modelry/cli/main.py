"""The entry point: nouns from the protos, commands written by hand, and those that the servers' distribution adds."""

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import click

from modelry.cli import derived, outputs
from modelry.cli.commands import HANDMADE
from modelry.cli.naming import commands
from modelry.cli.text import prepare_text
from modelry.client import ModelryError
from modelry.connection import NotReachable

SERVERS = "modelry.commands"


class Nouns(click.Group):
    """The group of all nouns, made when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Servers' commands first, then what is written by hand, then the nouns."""
        added = [entry.name for entry in entry_points(group=SERVERS)]
        single = [name for name in HANDMADE if " " not in name]
        return [*added, *single, *commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name."""
        for entry in entry_points(group=SERVERS, name=cmd_name):
            loaded: click.Command = entry.load()
            return loaded
        if cmd_name in HANDMADE:
            return HANDMADE[cmd_name]
        verbs = commands().get(cmd_name)
        return derived.noun(cmd_name, verbs) if verbs else None


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="modelry")
def root() -> None:
    """Modelry: import, fine-tune, publish, evaluate and deploy models.

    Commands talk to the installation of ~/.modelry (--home, MODELRY_HOME), or to MODELRY_URL with MODELRY_API_KEY.
    Every command takes --json; those that begin work take --wait (exit: 0 succeeded, 1 failed, 2 usage, 3 stopped,
    4 not reachable).
    """


def main() -> None:
    """Run, and end with a clear word instead of a traceback."""
    prepare_text()
    sys.exit(_run(lambda: root(standalone_mode=False)))


def _run(command: Callable[[], Any]) -> int:
    try:
        result = command()
        return result if isinstance(result, int) else outputs.EXIT_OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return outputs.EXIT_USAGE if isinstance(error, click.UsageError) else error.exit_code
    except click.Abort:
        click.echo("Stopped.", err=True)
        return 130
    except NotReachable as error:
        click.echo(f"Error: {error}", err=True)
        return outputs.EXIT_NOT_REACHABLE
    except ModelryError as error:
        return _refused(error)
    except BrokenPipeError:
        return outputs.EXIT_OK


def _refused(error: ModelryError) -> int:
    if error.code == "UNAVAILABLE" and not error.metadata:
        click.echo("Error: the installation does not answer. `modelry status` says what runs.", err=True)
        return outputs.EXIT_NOT_REACHABLE
    click.echo(f"Error: {error.message} ({error.reason})", err=True)
    for path, words in error.fields.items():
        if words not in error.message:
            click.echo(f"  {path}: {words}", err=True)
    return outputs.EXIT_USAGE if error.code == "INVALID_ARGUMENT" else outputs.EXIT_FAILED
