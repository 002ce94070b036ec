"""The command line `modelry`: nouns, verbs and flags come from the protos, a few commands are written by hand."""

from modelry.cli.main import main

__all__ = ["main"]
