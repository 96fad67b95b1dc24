"""`--schema`: the answers must be objects of a known form; each answer is checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import orjson
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import BaseModel, PydanticUserError

from cottonpalm.cli.chains.importing import Meant, kind_of, load
from cottonpalm.cli.chains.json_schema import flaws, misuse
from cottonpalm.cli.problems import Problem, os_problem
from cottonpalm.urls import shown

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

METHODS = {"anthropic": "function_calling"}  # all its models know tools; other providers take a JSON schema
NO_FORM = "the answer is no JSON object of the form asked for"


class Form(NamedTuple):
    """The form of the answers.

    Attributes:
        asked: what the models are asked for: a Pydantic class, or a JSON schema with a title.
        schema: the JSON schema that an answer must fit.
    """

    asked: type[BaseModel] | dict[str, Any]
    schema: dict[str, Any]

    @property
    def fields(self) -> list[str]:
        """The answer's fields, in order: the columns of a table."""
        return list(self.schema["properties"])

    def check(self, answer: Any) -> None:
        """Refuse an answer of another form.

        Raises:
            ValueError: the answer does not fit; the error says where. The row is then asked again.
        """
        if not isinstance(answer, dict):
            raise ValueError(NO_FORM)  # noqa: TRY004 - what `validate=` is to raise
        if isinstance(self.asked, dict) and (flaw := next(flaws(answer, self.schema), None)):
            raise ValueError(flaw)


def load_form(spec: str, folder: str) -> Form:
    """Load the form that FILE.json or MODULE:MODEL names.

    Raises:
        Problem: it cannot be read or found, or it is not the form of an object.
    """
    if spec.lstrip().startswith("{"):
        raise Problem("--schema takes a file, not the schema itself: save it, and say --schema answer.json")
    path = Path(folder) / Path(spec).expanduser()
    if path.suffix.lower() == ".json" or path.is_file():
        return _from_file(path)
    found = load(Meant("--schema", "Answer", _is_model, "models"), spec, folder)
    if not _is_model(found):
        raise Problem(
            f"--schema {spec} is no Pydantic model but {kind_of(found)}; name a subclass of BaseModel"
        )
    try:
        schema = found.model_json_schema(mode="serialization")
    except PydanticUserError as error:
        raise Problem(f"--schema {spec} has no JSON schema: {error.message.splitlines()[0]}") from error
    if (wrong := misuse(schema)) is not None:
        raise Problem(f"--schema {spec} cannot be asked for: {wrong}")
    return Form(found, schema)


def _from_file(path: Path) -> Form:
    name = shown(str(path))
    try:
        schema = orjson.loads(path.read_bytes())
    except OSError as error:
        raise os_problem("read", str(path), error) from error
    except orjson.JSONDecodeError as error:
        raise Problem(f"--schema {name} is no JSON: {error.msg} (line {error.lineno})") from error
    if (wrong := misuse(schema)) is not None:
        raise Problem(f"--schema {name} cannot be asked for: {wrong}")
    return Form({"title": "Answer", "description": "The answer.", **schema, "type": "object"}, schema)


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel) and found is not BaseModel


def asking(model: BaseChatModel, provider: str, form: Form) -> Runnable[Any, Any]:
    """Return the model so that it answers in this form; its answers are plain dicts."""
    method = METHODS.get(provider, "json_schema")
    return model.with_structured_output(form.asked, method=method) | AsDict()


class AsDict(RunnableSerializable[Any, Any]):
    """A Pydantic answer as the plain object that is stored and written; anything else as it is."""

    cottonpalm_form: ClassVar[int] = 1  # raised by hand when the same answer becomes another object

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002, ARG002
        """The object."""
        return input.model_dump(mode="json", by_alias=True) if isinstance(input, BaseModel) else input

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """The same, on the loop: nothing here waits."""
        return self.invoke(input, config, **kwargs)
