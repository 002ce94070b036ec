"""The reference page of the command line."""

from collections.abc import Iterator

import click
from click.testing import CliRunner

from modelry.cli.main import root


def page() -> str:
    """Return the help of every command."""
    lines = ["# Command line", ""]
    for words in command_paths(root, []):
        shown = CliRunner().invoke(root, [*words, "--help"], prog_name="modelry", terminal_width=100).output.rstrip()
        lines += [f"## modelry {' '.join(words)}".rstrip(), "", "```", shown, "```", ""]
    return "\n".join(lines)


def command_paths(command: click.Command, words: list[str]) -> Iterator[list[str]]:
    """Yield every command of a group, depth first."""
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from command_paths(child, [*words, name])
