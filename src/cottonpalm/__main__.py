"""`python -m cottonpalm` is the command."""

import sys

from cottonpalm.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
