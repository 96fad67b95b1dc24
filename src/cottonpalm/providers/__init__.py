"""What differs between providers: what their failures mean, what their answers used and how they ended."""

from cottonpalm.providers.classify import classify
from cottonpalm.providers.hints import retry_after_s
from cottonpalm.providers.raised import (
    BrokenAnswer,
    BudgetBusy,
    BudgetReached,
    CutAnswer,
    FilteredAnswer,
    ProviderDown,
    SignatureExpired,
    TooDear,
    dressed,
)

__all__ = [
    "BrokenAnswer",
    "BudgetBusy",
    "BudgetReached",
    "CutAnswer",
    "FilteredAnswer",
    "ProviderDown",
    "SignatureExpired",
    "TooDear",
    "classify",
    "dressed",
    "retry_after_s",
]
