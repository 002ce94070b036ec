"""`python -m modelry.cli`: the command line without its script."""

from modelry.cli.main import main

main()
