"""A processor says of itself what its chain says: names, types, schemas, prompts and the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cottonpalm import BatchProcessor
from tests.differential.forms import FORMS
from tests.differential.seen import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.differential.forms import Chain

pytestmark = [
    pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated"),
    pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated"),
]
FACE: dict[str, Callable[[Chain], Any]] = {
    "name": lambda chain: (getattr(chain, "name", None), chain.get_name(), chain.get_name("Input")),
    "types": lambda chain: (chain.InputType, chain.OutputType),
    "input schema": lambda chain: (chain.input_schema.__name__, chain.get_input_jsonschema()),
    "output schema": lambda chain: (chain.output_schema.__name__, chain.get_output_jsonschema()),
    "config schema": lambda chain: (chain.config_specs, chain.get_config_jsonschema()),
    "its config's class": lambda chain: chain.config_schema(include=["tags"]).model_json_schema(),
    "prompts": lambda chain: chain.get_prompts(),
    "graph": lambda chain: chain.get_graph().to_json(),
}


@pytest.mark.parametrize("name", FORMS, ids=lambda name: name.replace(" ", "-"))
def test_a_processor_has_the_face_of_its_chain(name: str) -> None:
    chain = FORMS[name].make()
    processor = BatchProcessor(chain)
    assert {what: _seen(look, processor) for what, look in FACE.items()} == {
        what: _seen(look, chain) for what, look in FACE.items()
    }


def _seen(look: Callable[[Chain], Any], chain: Chain) -> str:
    try:
        return plain(look(chain))
    except Exception as exc:
        return plain(exc)
