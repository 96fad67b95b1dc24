"""`cottonpalm` and `python -m cottonpalm`: heeds Ctrl-C from here on, also while the rest is loaded."""

import sys


def main() -> int:
    """The command. Returns the exit code."""
    try:
        from cottonpalm.cli.app import main as command  # noqa: PLC0415 - it takes the time in which one may interrupt
    except KeyboardInterrupt:
        sys.stderr.write("cottonpalm: interrupted before anything was done\n")
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
