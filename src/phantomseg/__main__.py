"""`python -m phantomseg`."""

from phantomseg.cli.main import main

main()
