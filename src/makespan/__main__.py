"""`python -m makespan`."""

from makespan.cli.main import main

main()
