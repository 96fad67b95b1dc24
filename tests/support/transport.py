"""`--transport fast|stock`: what is used by all that is not told otherwise, here and in the processes that tests start.

A plugin that pytest reads before any conftest: nothing of ours is loaded yet.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.begins import sitecustomize

BEGINS = Path(sitecustomize.__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--transport", choices=["fast", "stock"])


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    if wanted := early_config.known_args_namespace.transport:
        os.environ[sitecustomize.WANTED] = wanted
        os.environ["PYTHONPATH"] = python_path(*filter(None, [os.environ.get("PYTHONPATH")]))
        sitecustomize.begin()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--transport") == "stock" and item.get_closest_marker("as_shipped"):
        pytest.skip("it is about the default transport itself")


def python_path(*folders: str | Path) -> str:
    """What a process gets as its PYTHONPATH: these folders, after the one that brings it the transport."""
    return os.pathsep.join(map(str, [BEGINS, *folders]))
