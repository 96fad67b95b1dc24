"""`cottonpalm` and `python -m cottonpalm`: heeds Ctrl-C from here on, also while the rest is loaded."""

import os
import signal
import sys


def main() -> int:
    """The command. Returns the exit code."""
    when = "before anything was done"
    # Arrow's own allocator keeps what it has freed: with Parquet a run had twice the memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        from cottonpalm.cli.app import main as command  # noqa: PLC0415 - it takes the time in which one may interrupt

        when = "once more; what is done is kept, and the same command again goes on"
        code = command()
    except KeyboardInterrupt:
        sys.stderr.write(f"cottonpalm: interrupted {when}\n")
        code = 130
    # All is kept: whoever cannot wait for the end just ends it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
