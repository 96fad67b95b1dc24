"""What all tests share: Hypothesis without a deadline, and a watch over threads that stay behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from cottonpalm.request.limiter.limiters import SHARED

pytest_plugins = ["tests.support.postgres"]
# A loaded machine is no failure, and the same commit passes or fails alike everywhere; new cases come with new code.
settings.register_profile("no deadline", deadline=None, derandomize=True)
settings.load_profile("no deadline")

Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture(autouse=True, scope="session")
def _state_of_these_tests_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is left in the folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _limits_of_this_test_alone() -> Iterator[None]:
    """A limiter of an earlier test, on another clock, is no one's business."""
    SHARED.clear()
    yield
    SHARED.clear()


@pytest.fixture
def eventually() -> Eventually:
    """Waits until something holds that another thread brings about; fails after twenty seconds."""

    def wait(holds: Callable[[], object]) -> None:
        pause = threading.Event()
        for _ in range(2_000):
            if holds():
                return
            pause.wait(0.01)
        raise AssertionError("it did not come about in twenty seconds")

    return wait
