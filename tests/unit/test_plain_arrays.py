"""Arrow arrays made from bytes are those that pyarrow makes, and pandas is not loaded for them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cottonpalm.cli.files.plain_arrays import plain_array

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(allow_nan=False),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
}
OTHERS = [2**63, b"bytes", [1], {"a": 1}, "text", 1.5, True, 7]
WRITES = """
import io, sys
from cottonpalm.cli.writers.parquet_table import write_parquet
from cottonpalm.cli.writers.tables import Table
from cottonpalm.types import Outcome
rows = [Outcome(n, "ok", output=f"answer {n}", input={"text": f"text {n}", "n": n, "x": n / 2}) for n in range(3)]
file = io.BytesIO()
write_parquet(file, Table(["text", "n", "x"], lambda: iter(rows)))
print(len(file.getvalue()) > 100, "pyarrow" in sys.modules, "pandas" in sys.modules)
"""


@pytest.mark.parametrize("kind", VALUES, ids=str)
@given(data=st.data())
def test_an_array_is_the_one_that_pyarrow_makes(kind: Any, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | VALUES[kind]))
    made = plain_array(values, kind)
    assert made is not None
    made.validate(full=True)
    assert made.equals(pa.array(values, type=kind))
    assert made.null_count == values.count(None)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_values_of_another_type_are_left_to_pyarrow(kind: Any) -> None:
    fitting = {pa.string(): str, pa.bool_(): bool, pa.float64(): float}.get(kind, int)
    for other in OTHERS:
        if type(other) is not fitting or other == 2**63:
            assert plain_array([None, other], kind) is None
    for unknown in (pa.float32(), pa.large_string(), pa.timestamp("us"), pa.list_(pa.int64())):
        assert plain_array([None], unknown) is None


def test_a_lone_surrogate_is_said_to_be_one() -> None:
    with pytest.raises(UnicodeEncodeError):
        plain_array(["\ud800"], pa.string())


@pytest.mark.core
def test_rows_of_text_and_numbers_are_written_without_pandas() -> None:
    pytest.importorskip("pandas")
    done = subprocess.run([sys.executable, "-c", WRITES], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr
