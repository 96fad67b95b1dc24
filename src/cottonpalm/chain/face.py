"""The face of a `BatchProcessor` as a Runnable: it answers with the chain's own types, schemas, name and graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typing_extensions
    from langchain_core.prompts import BasePromptTemplate
    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel
    from pydantic import BaseModel

    Out = typing_extensions.TypeVar("Out", default=Any)  # what the chain answers
else:
    Out = TypeVar("Out")  # Python 3.11 knows no default


def chain_name(chain: Runnable[Any, Any]) -> str:
    """The names of its steps, or its own."""
    steps = getattr(chain, "steps", None)
    return " | ".join(step.get_name() for step in steps) if isinstance(steps, list) else chain.get_name()


class ChainFace(Runnable[Any, Out]):
    """A Runnable with the types, schemas, name and graph of another one."""

    def __init__(self, chain: Runnable[Any, Out]) -> None:
        self.chain = chain
        self.name = getattr(chain, "name", None)

    @property
    def InputType(self) -> type:
        """The chain's input type."""
        return self.chain.InputType

    @property
    def OutputType(self) -> type:
        """The chain's output type."""
        return self.chain.OutputType

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The chain's name."""
        return self.chain.get_name(suffix, name=name)

    def get_input_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The chain's input schema."""
        return self.chain.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> TypeBaseModel:
        """The chain's output schema."""
        return self.chain.get_output_schema(config)

    def get_input_jsonschema(self, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The chain's input schema as JSON schema."""
        return self.chain.get_input_jsonschema(config, **kwargs)

    def get_output_jsonschema(self, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The chain's output schema as JSON schema."""
        return self.chain.get_output_jsonschema(config, **kwargs)

    def config_schema(self, *, include: Sequence[str] | None = None) -> type[BaseModel]:
        """The schema of a config for the chain."""
        return self.chain.config_schema(include=include)

    def get_config_jsonschema(self, *, include: Sequence[str] | None = None) -> dict[str, Any]:
        """The same as JSON schema."""
        return self.chain.get_config_jsonschema(include=include)

    def get_prompts(self, config: RunnableConfig | None = None) -> list[BasePromptTemplate[Any]]:
        """The chain's prompts."""
        return self.chain.get_prompts(config)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The chain's graph."""
        return self.chain.get_graph(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The chain's configurable fields."""
        return self.chain.config_specs
