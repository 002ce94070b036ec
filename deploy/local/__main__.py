"""The commands of the local deployment, for where the client is not installed."""

from deploy.local.commands import main

main()
