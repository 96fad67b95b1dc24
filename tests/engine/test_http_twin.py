"""The simulator's providers over real HTTP, for seconds: `python -m bench.admission.http` is the long form."""

from __future__ import annotations

import pytest
from bench.admission.driven import over_http
from bench.admission.scaled import BY_NAME


@pytest.mark.parametrize(("name", "most"), [("cap-200", 40), ("rpm-headers", 500)])
def test_a_provider_over_http_is_used_and_hardly_rejects_anything(name: str, most: int) -> None:
    found = over_http(BY_NAME[name], "BatchProcessor", 1, horizon_s=3.0)
    assert found.accepted > 10
    assert found.accepted_peak <= most
    assert found.rejected <= 0.25 * found.accepted + 5
