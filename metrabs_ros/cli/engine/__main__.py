"""`python -m metrabs_ros.cli.engine`, where the command is not on the PATH."""

from metrabs_ros.cli.engine import main

main()
