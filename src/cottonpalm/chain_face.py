"""What a `BatchProcessor` says of itself as a Runnable: the chain's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph
    from langchain_core.runnables.utils import ConfigurableFieldSpec
    from langchain_core.utils.pydantic import TypeBaseModel


class ChainFace(Runnable[Any, Any]):
    """A Runnable with another one's types, schemas, name and graph."""

    def __init__(self, chain: Runnable[Any, Any]) -> None:
        self.chain = chain

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

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """The chain's graph."""
        return self.chain.get_graph(config)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The chain's configurable fields."""
        return self.chain.config_specs
