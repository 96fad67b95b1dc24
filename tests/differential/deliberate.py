"""Where a processor may differ from its chain, by the heading of docs/differences.md that says so."""

from __future__ import annotations

from typing import Final

OWN_BATCH: Final = "A step's own `batch` is not called"
REFUSED: Final = "A call that the chain itself refuses may be answered"

DIFFERENT: Final[dict[tuple[str, str], str]] = {
    **{("generator", method): REFUSED for method in ("abatch", "abatch_as_completed", "ainvoke")},
    **{("generator", method): REFUSED for method in ("astream", "atransform", "astream_events")},
    ("each", "astream_events"): REFUSED,
    # Its own batch gives the rows' run ids to nobody, or to other runs.
    **{("old-style model", method): OWN_BATCH for method in ("batch", "abatch")},
    **{("with_fallbacks", method): OWN_BATCH for method in ("batch", "abatch")},
    # Its own batch mixes up rows, and the others forget to try again.
    **{("with_retry", method): OWN_BATCH for method in ("batch", "abatch")},
    **{("with_retry", method): OWN_BATCH for method in ("batch_as_completed", "abatch_as_completed")},
}

# Seen in all cases at once, so that every case allows for them (see `differences` in test_differential.py).
ALLOWED: Final = ("All rows run before anything is raised", "`batch_as_completed` yields all good rows first")

# What these chains do not come across; each has an example or a test in the page.
ELSEWHERE: Final = (
    "A fault that no row survives stops the run",
    "Some exceptions that are no `Exception` are failed rows",
    "An output that is an exception object is an output",
    "The first Ctrl-C finishes what is in flight",
    "A failure of an earlier process is a `RowFailed`",
    "A cut or filtered answer is a fault",
    "An answer that does not parse is asked for again",
    "With a store, an answer must survive it",
    "cottonpalm retries; the SDK does not",
    "How much runs at once is found, not fixed",
    "A graph goes on in its thread",
    "Sync calls use the async form of a chain",
    "A request may take 600 seconds",
    "Rows may be answered without a call",
    "`priorities` and `ids` are the processor's own keywords",
    "A row's callbacks may hold one of cottonpalm's",
    "Run trees name their row",
    "A chain gets a copy of a row that is a dict or a list",
    "`invoke` and `stream` never touch the store",
    "A stream that has shown something is not tried again",
    "A processor is one step",
    "`transform` waits for its whole input",
    "The first run patches `send` of httpx",
)
