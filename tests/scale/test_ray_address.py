"""A cluster that somebody else began is joined by its address, and left alone at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cottonpalm import BatchProcessor, ConfigError
from tests.scale.chains import where

ROOT = Path(__file__).parents[2]


def answer_at(address: str) -> None:
    """Print where rows are answered: in a process of its own, as this one is in the cluster already."""
    processor = BatchProcessor(where, executor="ray", workers=1, ray_address=address)
    print(json.dumps(processor.batch([1, 2])))


@pytest.mark.timeout(400)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
def test_rows_are_answered_in_the_cluster_at_the_address_by_the_library_and_the_command(
    tmp_path: Path,
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    (tmp_path / "in.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
    command = ["run", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--no-progress"]
    command += ["--store", str(tmp_path / "s.db"), "--chain", "tests.scale.chains:where"]
    command += ["--executor", "ray", "--workers", "1", "--ray-address", address]
    by_library, by_command = (
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for words in (
            ["-c", f"from tests.scale.test_ray_address import answer_at; answer_at({address!r})"],
            ["-m", "cottonpalm", *command],
        )
    )
    out, err = by_library.communicate()
    _, said = by_command.communicate()
    assert (by_library.returncode, by_command.returncode) == (0, 0), err + said
    assert json.loads(out.splitlines()[-1]) == [address] * 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["output"] for line in lines] == [address] * 2
    assert ray.is_initialized()
    with pytest.raises(ConfigError, match=r"in the Ray cluster at .* already, and can be in one only"):
        BatchProcessor(where, executor="ray", ray_address="127.0.0.1:1").batch([1])


@pytest.mark.timeout(400)  # a cluster may take its time to begin
@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_wants_its_token_says_so_and_is_not_said_to_be_missing() -> None:
    import ray

    if os.environ.get("RAY_AUTH_MODE") != "token":
        pytest.skip("this Ray lets everybody in")
    address = ray.get_runtime_context().gcs_address
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    told = subprocess.run(
        [sys.executable, "-c", f"from tests.scale.test_ray_address import answer_at; answer_at({address!r})"],
        cwd=ROOT,
        env=without | {"RAY_NUM_REDIS_GET_RETRIES": "1"},  # it tries once, not for twenty seconds
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert (
        f"ConfigError: the Ray cluster at {address} lets nobody in without its token: set RAY_AUTH_MODE=token"
        in told.stderr
    )
