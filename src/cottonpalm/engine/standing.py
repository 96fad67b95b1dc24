"""How a run stands, as plain values that another process can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cottonpalm import clock

if TYPE_CHECKING:
    from cottonpalm.stats import Stats


def standing(stats: Stats, *, held: bool, cap: int | None, stopping: bool) -> dict[str, Any]:
    """The counts of this process, what binds now, and which orders it follows."""
    return {
        "at": clock.wall(),
        "ok": stats.ok,
        "failed": stats.failed,
        "stored": stats.stored,
        "total": stats.total,
        "requests": stats.requests,
        "waiting": stats.waiting,
        "limit": stats.limit,
        "binding": stats.binding.what,
        "key": stats.binding.key,
        "why": stats.binding.why,
        "pause_s": stats.pause_s,
        "silent_s": stats.silent_s,
        "trouble": stats.trouble,
        "cost_usd": stats.cost_usd if stats.cost_known or stats.cost_usd else None,
        "cost_known": stats.cost_known,
        "budget_spent_usd": stats.budget_spent_usd,
        "held": held,
        "cap": cap,
        "stopping": stopping,
    }
