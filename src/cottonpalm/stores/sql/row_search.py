"""Pages through the rows of a run by their place, never by counting; searches their text a stretch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOT_OK: Final = "status <> 1"  # as the partial index of `m007` says it
_LIKE: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


def ids(
    rows: Callable[..., list[Any]],
    low: int,
    high: int,
    statuses: Sequence[int],
    limit: int,
    *,
    back: bool,
) -> list[int]:
    """Ids between two others (both left out) with one of these statuses, in order; `back`: the last ones, falling."""
    wanted = "" if len(statuses) == 3 else f" AND status IN ({','.join(str(int(each)) for each in statuses)})"
    if wanted and 1 not in statuses:
        wanted = f" AND {_NOT_OK}{wanted}"
    order = "DESC" if back else "ASC"
    sql = f"SELECT id FROM item WHERE id > ? AND id < ?{wanted} ORDER BY id {order} LIMIT ?"  # noqa: S608 - our words
    return [each for (each,) in rows(sql, (low, high, limit))]


def holding(rows: Callable[..., list[Any]], found: Sequence[int], text: str, like: str) -> list[int]:
    """Those of some ids whose record holds a text, whatever its case (in ASCII), or may hold it.

    Args:
        rows: returns the rows of a statement.
        found: the ids.
        text: what is looked for.
        like: the condition that a record is like a pattern; see `Database.like`.
    """
    pattern = f"%{orjson.dumps(text).decode()[1:-1].translate(_LIKE)}%"
    marks = ",".join("?" * len(found))
    sql = f"SELECT id FROM record WHERE id IN ({marks}) AND {like} ORDER BY id"  # noqa: S608
    return [each for (each,) in rows(sql, (*found, pattern))]
