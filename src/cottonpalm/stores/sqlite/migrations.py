"""The schema: an append-only list of steps, counted by PRAGMA user_version. Never edit a step that was released."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cottonpalm.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

APPLICATION_ID: Final = 0x434F5450  # "COTP": distinguishes our files from other SQLite databases


def m001_runs_items_leases(db: sqlite3.Connection) -> None:
    """Add runs, items, leases. id = run << 40 | slot. Records have their own table, so a scan of keys reads little."""
    db.execute(
        "CREATE TABLE run (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,"
        " fingerprint TEXT, meta TEXT NOT NULL DEFAULT '{}')"
    )
    db.execute(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, key BLOB NOT NULL, content BLOB, status INTEGER NOT NULL,"
        " cost_pico INTEGER NOT NULL)"  # content NULL: equal to the key
    )
    db.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    db.execute(
        "CREATE TABLE lease (run INTEGER PRIMARY KEY, token TEXT NOT NULL, host TEXT NOT NULL, machine TEXT NOT NULL,"
        " pid INTEGER NOT NULL, since REAL NOT NULL, beat REAL NOT NULL)"
    )


def m002_spending(db: sqlite3.Connection) -> None:
    """Add what each run has spent and leased (see `protocols.Spent`), and when, for budgets per hour."""
    db.execute(
        "CREATE TABLE spending (run INTEGER PRIMARY KEY, account TEXT NOT NULL, reported INTEGER NOT NULL,"
        " uncertain INTEGER NOT NULL, leased INTEGER NOT NULL)"
    )
    db.execute(
        "CREATE TABLE spent (run INTEGER NOT NULL, at REAL NOT NULL, pico INTEGER NOT NULL,"
        " PRIMARY KEY (run, at)) WITHOUT ROWID"
    )


def m003_answers_and_claims(db: sqlite3.Connection) -> None:
    """Add the cache: good answers by key, and which process (a lease) now asks which question."""
    db.execute(
        "CREATE TABLE answer (key BLOB PRIMARY KEY, born REAL NOT NULL, expires REAL, body BLOB NOT NULL)"
    )
    db.execute("CREATE TABLE claim (key BLOB PRIMARY KEY, holder INTEGER NOT NULL)")


def m004_shares(db: sqlite3.Connection) -> None:
    """Add how processes divide limits, the secret bytes to make keys from, and what each run has learnt."""
    db.execute("CREATE TABLE share_secret (id INTEGER PRIMARY KEY CHECK (id = 1), secret BLOB NOT NULL)")
    db.execute(
        "CREATE TABLE share (key BLOB NOT NULL, unit TEXT NOT NULL, holder BLOB NOT NULL, amount REAL NOT NULL,"
        " least REAL NOT NULL, want REAL NOT NULL, total REAL NOT NULL, firm INTEGER NOT NULL, expires REAL NOT NULL,"
        " PRIMARY KEY (key, unit, holder)) WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE learnt (run INTEGER NOT NULL, key BLOB NOT NULL, in_flight REAL NOT NULL, firm INTEGER NOT NULL,"
        " PRIMARY KEY (run, key)) WITHOUT ROWID"
    )


def m005_batches(db: sqlite3.Connection) -> None:
    """Add batches at providers, their lines and results: in separate tables, so that a scan of lines reads little."""
    db.execute(
        "CREATE TABLE batch (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, tag TEXT NOT NULL UNIQUE,"
        " batch_id TEXT, body TEXT NOT NULL)"
    )
    db.execute("CREATE INDEX batch_of_run ON batch (run, id)")
    db.execute(
        "CREATE TABLE batch_line (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, row INTEGER NOT NULL,"
        " key BLOB NOT NULL, fate INTEGER NOT NULL, status INTEGER, lost TEXT, why TEXT)"
    )
    # A request that is out, answered or finally refused has no second line, so the user never pays for it twice.
    db.execute("CREATE UNIQUE INDEX batch_line_once ON batch_line (run, row, key) WHERE fate <> 1")
    db.execute("CREATE TABLE batch_answer (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")


def m006_numbers_and_counts(db: sqlite3.Connection) -> None:
    """Every outcome has a number of its run; each run keeps its last number, and how its rows stand."""
    # 0: stored before there were numbers.
    db.execute("ALTER TABLE item ADD COLUMN seq INTEGER NOT NULL DEFAULT 0")
    for column in ("seq", "ok", "retryable", "failed", "cost_pico"):
        db.execute(f"ALTER TABLE run ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    counted = db.execute(
        "SELECT id >> 40, sum(status = 1), sum(status = 2), sum(status = 3), sum(cost_pico) FROM item GROUP BY 1"
    ).fetchall()
    for run, *counts in counted:
        db.execute(
            "UPDATE run SET ok = ?, retryable = ?, failed = ?, cost_pico = ? WHERE id = ?", (*counts, run)
        )


def m007_orders(db: sqlite3.Connection) -> None:
    """Add what people ask of a run, what it shows them, and an index of failed rows, which are few."""
    db.execute(
        "CREATE TABLE orders (run INTEGER PRIMARY KEY, held INTEGER NOT NULL DEFAULT 0, most INTEGER,"
        " stop INTEGER NOT NULL DEFAULT 0, watched REAL NOT NULL DEFAULT 0)"
    )
    db.execute("CREATE TABLE shown (run INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    db.execute("CREATE INDEX item_not_ok ON item (id, status) WHERE status <> 1")


def m008_tools(db: sqlite3.Connection) -> None:
    """What tools answered in rows that go through batches."""
    db.execute(
        "CREATE TABLE batch_tool (run INTEGER NOT NULL, row INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL,"
        " PRIMARY KEY (run, row, key)) WITHOUT ROWID"
    )


def m009_known_limits(db: sqlite3.Connection) -> None:
    """What runs have found of each host, model and account: the next run of any name begins with it."""
    db.execute(
        "CREATE TABLE known_limit (key BLOB PRIMARY KEY, label TEXT NOT NULL, in_flight REAL NOT NULL,"
        " firm INTEGER NOT NULL, pace REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID"
    )


def m010_rows_out(db: sqlite3.Connection) -> None:
    """What the rows are whose requests are in batches: so they are found again wherever they stand in the input."""
    db.execute(
        "CREATE TABLE batch_row (run INTEGER NOT NULL, row INTEGER NOT NULL, key BLOB NOT NULL, content BLOB NOT NULL,"
        " PRIMARY KEY (run, row)) WITHOUT ROWID"
    )


def m011_what_shares_used(db: sqlite3.Connection) -> None:
    """What a holder used of a minute, and until when that counts: of a dead one no more than that is taken."""
    db.execute("ALTER TABLE share ADD COLUMN used TEXT")  # NULL: nobody knows, so all that it held counts


STEPS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    m001_runs_items_leases,
    m002_spending,
    m003_answers_and_claims,
    m004_shares,
    m005_batches,
    m006_numbers_and_counts,
    m007_orders,
    m008_tools,
    m009_known_limits,
    m010_rows_out,
    m011_what_shares_used,
)


def _program(db: sqlite3.Connection) -> int:
    """Which program the file says it belongs to; 0: it does not say."""
    [(application_id,)] = db.execute("PRAGMA application_id").fetchall()
    return int(application_id)


def _version(db: sqlite3.Connection) -> int:
    """How many of the steps have run."""
    [(version,)] = db.execute("PRAGMA user_version").fetchall()
    return int(version)


def check_ours(db: sqlite3.Connection, path: str) -> None:
    """Refuse a database of another program, or of a newer cottonpalm, before anything is changed in it.

    Raises:
        StoreError: it is one of the two; the error says which.
    """
    if _program(db) != APPLICATION_ID:
        # Read in this order: another process that makes the file right now commits both at once.
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        program = _program(db)
        if program != APPLICATION_ID and (program or tables):
            raise StoreError(
                f"{path} is a database of another program: give cottonpalm a file of its own (--store)"
            )
    version = _version(db)
    if version > len(STEPS):
        raise StoreError(
            f"{path} was made by a newer cottonpalm (schema {version}, this one knows {len(STEPS)}): update cottonpalm"
        )


def migrate(db: sqlite3.Connection, path: str) -> bool:
    """Run the steps that have not run yet, in one transaction together with their number; False: none."""
    if _version(db) == len(STEPS):
        return False
    db.execute("BEGIN IMMEDIATE")
    try:
        check_ours(db, path)
        missing = STEPS[_version(db) :]  # another process may have run them by now
        for step in missing:
            step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(STEPS)}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    return bool(missing)
