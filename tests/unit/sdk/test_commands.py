"""The derived command line: no two parameters of a command have the same name."""

import warnings

import click
import pytest
from click.testing import CliRunner

from deploy.tooling.command_list import command_paths
from modelry.cli.main import root

pytestmark = pytest.mark.unit


def test_parameters_of_a_command_do_not_overwrite_each_other() -> None:
    """`modelry projects get PROJECT` took its argument for the project to work in, or the other way round."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for words in command_paths(root, []):
            command: click.Command = root
            for word in words:
                assert isinstance(command, click.Group)
                found = command.get_command(click.Context(command), word)
                assert found is not None
                command = found
            names = [parameter.name for parameter in command.params]
            assert len(names) == len(set(names)), words


def test_help_of_a_command_with_a_project_argument_is_clean() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CliRunner().invoke(root, ["projects", "get", "--help"]).exit_code == 0
