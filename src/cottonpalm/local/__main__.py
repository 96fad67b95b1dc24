"""`python -m cottonpalm.local`: fetch now what a run would fetch later, for instance before you go offline."""

from __future__ import annotations

import sys

from cottonpalm.errors import LocalModelError
from cottonpalm.local import fetch


def main() -> int:
    """Fetch the model and the demo's sentences; print where they are."""
    try:
        for asset in (fetch.MODEL, fetch.REVIEWS):
            sys.stdout.write(f"{asset.title}: {fetch.ensure(asset)}\n")
    except LocalModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
