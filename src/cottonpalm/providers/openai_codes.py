"""What the error codes of OpenAI, and of those who speak its formats, mean. A pure table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from cottonpalm.providers.used_up import is_used_up
from cottonpalm.types import Kind

if TYPE_CHECKING:
    from cottonpalm.providers.answer import Complaint

NO_MONEY: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "exceeded_current_quota_error",  # Moonshot
        "Arrearage",  # Alibaba
        "AllocationQuota.FreeTierOnly",
        "CommodityNotPurchased",
        "PrepaidBillOverdue",
        "PostpaidBillOverdue",
        "AccountOverdueError",  # Volcengine
        "1113",  # Zhipu
        "blocked_api_access",  # Groq: its limit of spending
        "budget_exceeded",  # LiteLLM's proxy: the budget of a key or a team
    }
)
USED_UP: Final = frozenset(  # a quota of hours, days or a plan: waiting during the run does not help
    {
        "1304",  # Zhipu, as all of these: the day's calls
        "1308",  # so many hours
        "1310",  # a week or a month
        *(str(code) for code in range(1316, 1322)),  # 5 hours or 7 days, and nothing is paid beyond them
        "1309",  # the plan has expired
        "1311",  # the plan does not have this model
        "1314",
        "1315",  # the key is for another plan
    }
)
TOO_LONG: Final = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "exceed_context_size_error",  # llama.cpp
        "OutofContextError",  # Volcengine
        "1261",  # Zhipu
    }
)
REFUSED: Final = frozenset({"invalid_prompt", "content_policy_violation", "content_filter"})
REFUSED_TO_ALL: Final = frozenset(  # by a key, a model or a place that no row can change
    {
        "invalid_api_key",
        "invalid_organization",
        "insufficient_permissions",
        "unsupported_country",
        "unsupported_country_region_territory",
        "model_not_found",
        "model_decommissioned",
        "model_permission_blocked_org",
        "model_permission_blocked_project",
        "model_terms_required",
        "organization_restricted",
        "DeploymentNotFound",
        "NotFoundError",
    }
)
BY_CODE: Final[dict[str, Kind]] = {
    "rate_limit_exceeded": Kind.THROTTLE,
    "server_error": Kind.TRANSIENT,
    "slow_down": Kind.THROTTLE,
    "overloaded": Kind.THROTTLE,
    "invalid_api_key": Kind.STOP_RUN,
    "model_not_found": Kind.STOP_RUN,
}
_TOO_LARGE: Final = re.compile(r"Limit:? ([0-9]+).{0,80}?Requested:? ([0-9]+)", re.DOTALL)


def kind(complaint: Complaint) -> Kind | None:
    """Say what OpenAI's error codes mean; None if the status decides."""
    if complaint.codes & (NO_MONEY | USED_UP) or is_used_up(complaint):
        return Kind.STOP_RUN
    if complaint.status >= 400 and complaint.codes & REFUSED_TO_ALL:
        return Kind.STOP_RUN
    if complaint.codes & TOO_LONG or _larger_than_the_limit(complaint):
        return Kind.DEGRADE
    if complaint.codes & REFUSED or (
        isinstance(complaint.details, dict) and "flagged_input" in complaint.details
    ):
        return Kind.FAIL_ROW
    if complaint.status < 400:  # the error came inside a stream or a good answer, so only its code tells
        return next((BY_CODE[code] for code in sorted(complaint.codes) if code in BY_CODE), None)
    return _in_words(complaint)


def _larger_than_the_limit(complaint: Complaint) -> bool:
    """Whether the request is larger than the whole limit per minute, so that waiting never helps."""
    if complaint.status not in (413, 429) or "too large" not in complaint.message:
        return False
    found = _TOO_LARGE.search(complaint.message)
    return found is None or int(found[2]) > int(found[1])


def _in_words(complaint: Complaint) -> Kind | None:
    words = (
        "maximum context length",
        "exceeds the context window",
        "context_length_exceeded",
        "longer than the maximum model length",  # vLLM
        "max_new_tokens",
        "token count",
        "Range of input length should be",  # Alibaba
        "exceeded model token limit",  # Moonshot
        "exceed max message tokens",  # Volcengine
    )
    if complaint.status in (400, 403, 422) and any(word in complaint.message for word in words):
        return Kind.DEGRADE
    return None
