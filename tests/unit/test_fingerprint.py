"""What a chain's answers depend on is written down and compared; secrets and chance are not."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.example_selectors import LengthBasedExampleSelector
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from cottonpalm.chain.fingerprint import describe, digest
from cottonpalm.chain.traits import answer_is_a_message, how_to_call, none_is_no_answer, output_types
from cottonpalm.chain.walk import parts
from cottonpalm.redact import is_secret, public_url
from cottonpalm.stores.rules.changes import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.core
SECRET = "hush-hush"
PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "Is this good? {text}")])


class Verdict(BaseModel):
    good: bool


class Wider(BaseModel):
    good: bool
    why: str


def model(**more: Any) -> ChatOpenAI:
    return ChatOpenAI(**{"model": "gpt-4o-mini", "api_key": SECRET, **more})


def chain(prompt: str = "Is this good? {text}", **more: Any) -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_messages([("human", prompt)]) | model(**more) | StrOutputParser()


def refused(old: Any, new: Any) -> list[str]:
    changes = compare(describe(old), describe(new))
    assert changes.warn == []
    return changes.refuse


def shout(text: str) -> str:
    return text.upper()


def whisper(text: str) -> str:
    return text.lower()


def added(by: int, number: int) -> int:
    return by + number


class Own(Runnable[str, str]):
    def __init__(self, inner: Any = None, level: int = 1, api_key: str = SECRET) -> None:
        self.inner, self.level, self.api_key = inner, level, api_key

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return input


class OwnAsync(Own):
    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return input


def few_shot(example: str) -> Any:
    shown = PromptTemplate.from_template("{a}")
    return FewShotPromptTemplate(examples=[{"a": example}], example_prompt=shown, suffix="{b}")


# -- what is seen


def test_a_changed_prompt_is_shown_with_both_texts() -> None:
    assert refused(chain("Is this good? {text}"), chain("Is this bad? {text}")) == [
        'the prompt changed (steps[0] ChatPromptTemplate): "Is this good? {text}" -> "Is this bad? {text}"'
    ]


def test_long_prompts_are_shortened_round_the_place_that_changed() -> None:
    (line,) = refused(chain("x" * 500 + "good" + "y" * 500), chain("x" * 500 + "bad" + "y" * 500))
    assert "good" in line
    assert "bad" in line
    assert len(line) < 250


def test_a_changed_model_or_parameter_is_named() -> None:
    assert refused(chain(), chain(model="gpt-4o")) == [
        'steps[1] ChatOpenAI: model_name changed: "gpt-4o-mini" -> "gpt-4o"'
    ]
    assert refused(chain(temperature=0), chain(temperature=1)) == [
        "steps[1] ChatOpenAI: temperature changed: 0.0 -> 1.0"
    ]
    assert refused(chain(), chain(max_tokens=5)) == ["steps[1] ChatOpenAI: max_tokens changed: nothing -> 5"]
    assert refused(chain(), chain(base_url="https://other.example/v1"))
    assert refused(chain(extra_body={"top_k": 1}), chain(extra_body={"top_k": 2}))
    assert refused(
        chain(model_kwargs={"max_thinking_tokens": 1}), chain(model_kwargs={"max_thinking_tokens": 2})
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (model().bind(stop=["a"]), model().bind(stop=["b"])),
        (model().bind(stop=["a"]), model()),
        (model().with_structured_output(Verdict), model().with_structured_output(Wider)),
        (
            model().with_structured_output(Verdict, method="function_calling", include_raw=True),
            model().with_structured_output(Wider, method="function_calling", include_raw=True),
        ),
        (PydanticOutputParser(pydantic_object=Verdict), PydanticOutputParser(pydantic_object=Wider)),
        (model().with_fallbacks([model()]), model().with_fallbacks([model(model="o3")])),
        (RunnableParallel(a=model()), RunnableParallel(a=model(temperature=1))),
        (RunnablePassthrough.assign(a=model()), RunnablePassthrough.assign(a=model(temperature=1))),
        (model().map(), model(temperature=1).map()),
        (RunnableBranch((shout, model()), model()), RunnableBranch((shout, model()), model(temperature=1))),
        (RunnableBranch((shout, model()), model()), RunnableBranch((shout, model(temperature=1)), model())),
        (Own(model()), Own(model(temperature=1))),
        (Own([{"a": model()}]), Own([{"a": model(temperature=1)}])),
        (Own(level=1), Own(level=2)),
        (FakeListChatModel(responses=["a"]), FakeListChatModel(responses=["b"])),
        (
            model().configurable_alternatives(ConfigurableField(id="m"), other=model(temperature=1)),
            model().configurable_alternatives(ConfigurableField(id="m"), other=model(temperature=2)),
        ),
        (PROMPT.partial(x="1"), PROMPT.partial(x="2")),
        (few_shot("1"), few_shot("2")),
    ],
)  # fmt: skip
def test_a_difference_anywhere_in_the_chain_is_seen(old: Any, new: Any) -> None:
    assert refused(old, new)


@pytest.mark.parametrize(
    ("module", "cls", "field"),
    [
        ("langchain_openai", "ChatOpenAI", "model"),
        ("langchain_openai", "OpenAI", "model"),
        ("langchain_openai", "AzureChatOpenAI", "azure_deployment"),
        ("langchain_anthropic", "ChatAnthropic", "model"),
        ("langchain_google_genai", "ChatGoogleGenerativeAI", "model"),
        ("langchain_groq", "ChatGroq", "model"),
        ("langchain_mistralai", "ChatMistralAI", "model"),
        ("langchain_ollama", "ChatOllama", "model"),
        ("langchain_together", "ChatTogether", "model"),
        ("langchain_openrouter", "ChatOpenRouter", "model"),
    ],
)
def test_the_models_name_is_in_the_fingerprint_of_every_providers_class(
    module: str, cls: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = getattr(pytest.importorskip(module), cls)
    for word in (
        "OPENAI",
        "AZURE_OPENAI",
        "ANTHROPIC",
        "GOOGLE",
        "GROQ",
        "MISTRAL",
        "TOGETHER",
        "OPENROUTER",
    ):
        monkeypatch.setenv(f"{word}_API_KEY", SECRET)
    more = {"azure_endpoint": "https://a.invalid", "api_version": "1"} if cls.startswith("Azure") else {}
    one, two = (made(**{field: name, **more}) for name in ("first-model", "second-model"))
    lines = refused(one, two)
    assert any("first-model" in line and "second-model" in line for line in lines)
    assert SECRET not in json.dumps(describe(one))


def test_a_model_that_a_function_closes_over_is_part_of_the_chain() -> None:
    def make(inner: Any) -> Runnable[Any, Any]:
        return RunnableLambda(lambda text: [inner.invoke(text)])

    changes = compare(describe(make(model())), describe(make(model(temperature=1))))
    assert any("temperature" in line for line in changes.refuse)


def test_the_parts_of_an_agent_are_seen() -> None:
    from langchain.agents import create_agent

    @tool
    def add(a: int) -> int:
        """Adds."""
        return a

    old, new = (create_agent(model(temperature=t), [add], response_format=Verdict) for t in (0, 1))
    assert any("temperature" in line for line in refused(old, new))
    assert Verdict in output_types(old).values()
    assert how_to_call(old) == "async"


# -- what only warns, what does not count


def test_changed_code_of_the_user_only_warns() -> None:
    for old, new in (
        (RunnableLambda(shout), RunnableLambda(whisper)),
        (RunnableLambda(partial(added, 2)), RunnableLambda(partial(added, 3))),
        (PROMPT.partial(x=shout), PROMPT.partial(x=whisper)),
    ):
        changes = compare(describe(old), describe(new))
        assert changes.refuse == []
        assert len(changes.warn) == 1


def test_what_a_function_closes_over_counts_and_is_named() -> None:
    def make(by: int, state: list[int]) -> Runnable[Any, Any]:
        return RunnableLambda(lambda x: x + by + len(state))

    def told(old: Runnable[Any, Any], new: Runnable[Any, Any]) -> Any:
        return compare(describe(old), describe(new))

    assert told(make(1, []), make(2, [])) == ([], ["by, which RunnableLambda uses, changed"])
    assert told(make(1, []), make(1, [5])) == ([], ["the state of state, which RunnableLambda uses, changed"])
    assert told(make(1, [5]), make(1, [5])) == ([], [])


@pytest.mark.parametrize(
    ("value", "other"), [(np.float64(0.5), np.float64(0.6)), (np.float64("nan"), 0.5), ("\ud800", "\ud801")]
)
def test_what_is_no_json_counts_like_any_other_value(value: Any, other: Any) -> None:
    def told(by: Any) -> dict[str, Any]:
        return describe(RunnableLambda(lambda x: [x, by, {by: by}]).bind(said=by, named={by: by}))

    assert json.loads(json.dumps(told(value))) == told(value)
    assert digest(told(value)) == digest(told(value)) != digest(told(other))
    assert compare(told(value), told(value)) == ([], [])


def test_lambdas_on_one_line_and_lambdas_of_several_lines_are_told_apart() -> None:
    # fmt: off
    one, other = RunnableLambda(lambda x: f"short {x}"), RunnableLambda(lambda x: f"long {x}")
    first, second = [
        RunnableLambda(
            lambda x: x
            + "a") for _ in range(1)
    ] + [
        RunnableLambda(
            lambda x: x
            + "b") for _ in range(1)
    ]
    # fmt: on
    assert compare(describe(one), describe(other)).warn
    assert compare(describe(first), describe(second)).warn
    assert compare(describe(one), describe(one)) == ([], [])


def test_bytecode_is_compared_within_one_python_version_only() -> None:
    code = "source:a", "3.11:b", "3.11:c", "3.13:d"
    description = [{"L": {"func": {"$code": one}}} for one in code]
    assert compare(description[1], description[2]).warn
    assert compare(description[1], description[3]) == ([], [])
    assert compare(description[0], description[1]) == ([], [])
    made = eval("lambda x: x + 1")
    assert compare(describe(RunnableLambda(made)), describe(RunnableLambda(eval("lambda x: x + 2")))).warn


@pytest.mark.parametrize(
    "same",
    [
        lambda: chain(api_key="other"),
        lambda: chain(max_retries=9, timeout=3, default_headers={"X-Token": SECRET}),
        lambda: chain(tags=["a"], metadata={"a": 1}, callbacks=[], name="me"),
        lambda: chain(extra_body={"api_key": SECRET, "headers": {"x": SECRET}}),
        lambda: chain().with_config(tags=["t"], run_name="r"),
        lambda: chain().with_retry(),
        lambda: PROMPT_ONLY | model().with_retry() | StrOutputParser(),
    ],
)
def test_keys_headers_retries_names_and_tags_do_not_count(same: Callable[[], Any]) -> None:
    assert compare(describe(chain()), describe(same())) == ([], [])


PROMPT_ONLY = ChatPromptTemplate.from_messages([("human", "Is this good? {text}")])


def test_the_port_of_a_server_on_this_machine_does_not_count() -> None:
    one, two = (chain(base_url=f"http://127.0.0.1:{port}/v1") for port in (1234, 4321))
    assert digest(describe(one)) == digest(describe(two))
    assert digest(describe(one)) != digest(describe(chain()))


def test_no_secret_is_in_a_description_wherever_it_was() -> None:
    bound = model(
        base_url=f"https://user:{SECRET}@host.example/v1?key={SECRET}",
        default_headers={"Authorization": SECRET},
        default_query={"key": SECRET},
        extra_body={
            "auth": {"deep": SECRET},
            "list": [{"password": SECRET}],
            "url": f"https://a.b/?t={SECRET}",
        },
        model_kwargs={"access_token": SECRET},
        organization=SECRET,
    ).bind(
        tools=[
            {
                "type": "mcp",
                "server_url": f"https://x.y/?k={SECRET}",
                "headers": {"x": SECRET},
                "authorization": SECRET,
            }
        ]
    )
    hidden = SECRET
    whole = PROMPT | bound | RunnableLambda(lambda x: x + hidden) | Own() | StrOutputParser()
    whole = whole.with_config(configurable={"openai_api_key": SECRET})
    assert SECRET not in json.dumps(describe(whole))


def test_a_field_of_a_schema_may_be_called_token() -> None:
    def tools(kind: str) -> list[dict[str, Any]]:
        return [
            {"function": {"parameters": {"properties": {"token": {"type": kind}}, "required": ["token"]}}}
        ]

    assert refused(model().bind(tools=tools("string")), model().bind(tools=tools("integer")))


def test_names_and_texts_that_look_like_credentials() -> None:
    for name in ("api_key", "X-Auth", "accessToken", "client_secret", "PASSWORD", "headers"):
        assert is_secret(name, "x")
    assert is_secret("anything", "sk-abcdef")
    assert not is_secret("max_tokens", 5)
    assert not is_secret("temperature", 1.0)
    assert not is_secret("stop", "x")


def test_addresses_lose_what_is_private() -> None:
    assert public_url("https://u:p@h.example:8443/v1/?k=1#f") == "https://h.example:8443/v1"
    assert public_url("http://localhost:5/v1") == public_url("http://[::1]:6/v2") == "http://loopback"
    assert public_url("see https://h/?k=1") == "see https://h/?k=1"
    assert public_url("http://h:notaport/x") == "http://…"


# -- determinism


SCRIPT = """
import sys
from cottonpalm.chain.fingerprint import describe, digest
assert not any(name.startswith(("langchain_openai", "openai", "langchain_anthropic")) for name in sys.modules)
from tests.unit.test_fingerprint import big
import json
text = json.dumps(describe(big()))
assert "0x" not in text, text
print(digest(describe(big())).hex())
"""


def big() -> Runnable[Any, Any]:
    tagged = FakeListChatModel(responses=["x"]).bind(stop={"b", "a", "c"}, seed=b"\x00")
    selector = LengthBasedExampleSelector(
        examples=[{"a": "1"}], example_prompt=PromptTemplate.from_template("{a}")
    )
    held = Own(
        {
            "sets": {1, "b", None},
            "object": object(),
            "embedding": DeterministicFakeEmbedding(size=3),
            "s": selector,
        }
    )
    return PROMPT | model() | {"a": tagged, "b": RunnableLambda(shout), "c": held, "d": itemgetter("x")}


def test_a_description_is_the_same_in_every_process_and_json() -> None:
    here = describe(big())
    assert json.loads(json.dumps(here)) == here
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert run.stdout.strip() == digest(here).hex()


def test_chains_that_contain_themselves_end() -> None:
    own = Own()
    own.inner = [own, RunnableLambda(shout) | own]
    assert describe(own)
    assert len(parts(own)) == len({id(part.runnable) for part in parts(own)})
    held: dict[str, Any] = {}
    held["self"] = held
    assert describe(Own(held))


def test_a_version_string_of_the_users_own_is_compared_as_such() -> None:
    assert compare({"fingerprint": "v1"}, {"fingerprint": "v2"}).refuse == [
        'fingerprint changed: "v1" -> "v2"'
    ]


# -- how to call, what comes out


def numbers(chunks: Iterator[Any]) -> Iterator[Any]:
    yield from chunks


async def anumbers(chunks: Any) -> Any:
    async for chunk in chunks:
        yield chunk


async def awhisper(text: str) -> str:
    return text


class SyncModel(GenericFakeChatModel):
    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        raise NotImplementedError


@tool
def double(x: int) -> int:
    """Doubles."""
    return 2 * x


@tool
async def adouble(x: int) -> int:
    """Doubles."""
    return 2 * x


@pytest.mark.parametrize(
    ("runnable", "how"),
    [
        (PROMPT | model() | StrOutputParser(), "async"),
        (PROMPT | model() | StrOutputParser() | shout, "async"),
        (PROMPT | model().with_structured_output(Verdict), "async"),
        (PROMPT | StrOutputParser(), "async"),
        (RunnableLambda(shout), "threads"),
        (PROMPT | RunnableLambda(shout) | JsonOutputParser(), "threads"),
        (RunnableLambda(shout) | awhisper, "async"),
        (RunnableLambda(shout, awhisper), "async"),
        (RunnableGenerator(numbers), "threads"),
        (model() | RunnableGenerator(numbers), "threads"),
        (model() | RunnableGenerator(numbers, anumbers), "async"),
        (Own(), "threads"),
        (OwnAsync(), "async"),
        (double, "threads"),
        (adouble, "async"),
        (RunnablePassthrough(), "async"),
        (RunnablePassthrough(shout), "threads"),
        (SyncModel(messages=iter([AIMessage("x")])), "threads"),
        (RunnableParallel(a=RunnableLambda(shout), b=RunnablePassthrough()), "threads"),
        (itemgetter("a") | PROMPT | model(), "async"),
    ],
)
def test_a_chain_is_called_on_threads_only_where_it_must_be(runnable: Any, how: str) -> None:
    assert how_to_call(runnable) == how


def test_a_model_with_a_sync_client_of_the_users_own_alone_is_called_on_threads() -> None:
    import httpx2

    with httpx2.Client() as client:
        assert how_to_call(PROMPT | model(http_client=client)) == "threads"


def typed(message: BaseMessage) -> list[Verdict]:
    return []


@pytest.mark.parametrize(
    "runnable",
    [
        model().with_structured_output(Verdict),
        model().with_structured_output(Verdict, method="function_calling"),
        model().with_structured_output(Verdict, method="json_mode", include_raw=True),
        model() | PydanticOutputParser(pydantic_object=Verdict),
        PROMPT | model().bind_tools([Verdict]),
        model() | RunnableLambda(typed),
        model().with_fallbacks([model().with_structured_output(Verdict)]),
    ],
)
def test_the_classes_a_chain_answers_with_are_found(runnable: Any) -> None:
    if Verdict not in output_types(runnable).values():
        assert "tools" in json.dumps(describe(runnable))  # bound as a schema: the answer is a message
    assert BaseModel not in output_types(runnable).values()


def test_the_users_own_output_types_are_added() -> None:
    assert set(output_types(PROMPT, Verdict).values()) == {Verdict}
    assert set(output_types(PROMPT, [Verdict, Wider]).values()) == {Verdict, Wider}
    assert output_types(PROMPT) == {}


def test_only_a_parser_of_tool_calls_says_none_for_no_answer() -> None:
    assert none_is_no_answer(PROMPT | model().with_structured_output(Verdict, method="function_calling"))
    assert not none_is_no_answer(PROMPT | model().with_structured_output(Verdict))
    assert not none_is_no_answer(RunnableLambda(shout))


def test_only_where_all_models_come_last_is_the_answer_a_message() -> None:
    assert answer_is_a_message(PROMPT | model())
    assert not answer_is_a_message(PROMPT | model() | StrOutputParser())
    assert not answer_is_a_message(PROMPT | model() | StrOutputParser() | PROMPT | model())
