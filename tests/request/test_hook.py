"""The patch of `send`: what is ours, and that it is not felt by anybody else."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

from cottonpalm.request.row_account import ROW, RowAccount
from cottonpalm.request.transport import hook
from tests.request.kit import a_run, in_flight, one, openai
from tests.support.loopback import Loopback
from tests.support.replies import fails

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.core
LIBRARIES = pytest.mark.parametrize("http", [httpx, httpx2], ids=["httpx", "httpx2"])
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def _hooked() -> None:
    hook.install()


@pytest.fixture
def row() -> Iterator[RowAccount]:
    account = RowAccount(a_run(), 0)
    token = ROW.set(account)
    yield account
    ROW.reset(token)


def client(http: ModuleType, **answer: Any) -> Any:
    transport = http.MockTransport(lambda _: http.Response(**{"status_code": 200, "json": ANSWER, **answer}))
    return http.Client(transport=transport)


def in_a_new_process(code: str, **environment: str) -> str:
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@LIBRARIES
def test_a_model_request_of_a_row_is_counted(http: ModuleType, row: RowAccount) -> None:
    with client(http) as c:
        c.post("http://x/v1/chat/completions", json=BODY)
    assert row.attempts == 1


@LIBRARIES
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "m", "input": "hi"}),
        ("/messages", {"to": "bob", "text": "a message of another service"}),
        ("/v1/messages", {"messages": ["hi"]}),
        ("/chat/completions", ["not", "an", "object"]),
        ("/v1/messages/count_tokens", BODY),
        ("/v1/batches", BODY),
        ("/api/chat", {"room": 7}),
        ("/v1/responses", {"model": "m"}),
    ],
)
def test_a_rows_own_calls_to_other_services_go_through_untouched(
    http: ModuleType, path: str, body: Any, row: RowAccount
) -> None:
    sent: list[Any] = []

    def handler(request: Any) -> Any:
        sent.append(request)
        return http.Response(500)

    with http.Client(transport=http.MockTransport(handler)) as c:
        request = c.build_request("POST", f"http://x{path}", json=body)
        response = c.send(request)
    assert sent == [request]
    assert sent[0] is request
    assert response.request is request
    assert "x-should-retry" not in response.headers
    assert row.attempts == 0


@LIBRARIES
def test_only_posts_with_a_body_in_memory_are_ours(http: ModuleType, row: RowAccount) -> None:
    with client(http) as c:
        c.get("http://x/v1/chat/completions")
        c.post("http://x/v1/chat/completions", content=(piece for piece in [b"{}"]))
        c.post("http://x/v1/chat/completions", files={"messages": b"x"})
    assert row.attempts == 0


@LIBRARIES
def test_without_a_row_the_same_objects_go_in_and_come_out(http: ModuleType) -> None:
    response = http.Response(429, headers={"retry-after": "9"})
    hooks: list[str] = []

    def transport(request: Any) -> Any:
        hooks.append("transport")
        return response

    events = {
        "request": [lambda _: hooks.append("request")],
        "response": [lambda _: hooks.append("response")],
    }
    with http.Client(transport=http.MockTransport(transport), event_hooks=events) as c:
        request = c.build_request("POST", "http://x/v1/chat/completions", json=BODY)
        assert c.send(request) is response
        assert response.request is request
    assert hooks == ["request", "transport", "response"]


@LIBRARIES
def test_without_a_row_exceptions_pass_as_they_are(http: ModuleType) -> None:
    error = http.ConnectError("refused")

    def transport(request: Any) -> Any:
        raise error

    with (
        http.Client(transport=http.MockTransport(transport)) as c,
        pytest.raises(http.ConnectError) as caught,
    ):
        c.post("http://x/v1/chat/completions", json=BODY)
    assert caught.value is error


@LIBRARIES
def test_the_signature_of_send_is_what_it_was(http: ModuleType) -> None:
    for cls in (http.Client, http.AsyncClient):
        names = list(inspect.signature(cls.send).parameters)
        assert names == ["self", "request", "stream", "auth", "follow_redirects"]
        assert cls.send.__name__ == "send"
        assert cls.send.__doc__
    assert inspect.iscoroutinefunction(http.AsyncClient.send)


@LIBRARIES
def test_the_users_event_hooks_run_once_per_try(http: ModuleType, row: RowAccount) -> None:
    statuses, asked = iter([500, 200]), []
    transport = http.MockTransport(lambda _: http.Response(next(statuses), json=ANSWER))
    with http.Client(transport=transport, event_hooks={"request": [asked.append]}) as c:
        c.post("http://x/v1/chat/completions", json=BODY)
    assert len(asked) == row.attempts == 2


def test_importing_patches_nothing_and_installing_twice_patches_once() -> None:
    code = """
import httpx, httpx2, threading
before = [httpx.Client.send, httpx.AsyncClient.send, httpx2.Client.send, httpx2.AsyncClient.send]
from cottonpalm.request.transport import hook
sends = lambda: [httpx.Client.send, httpx.AsyncClient.send, httpx2.Client.send, httpx2.AsyncClient.send]
assert sends() == before and not hook.reaches()
threads = [threading.Thread(target=hook.install) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
hook.install()
assert [send.__wrapped__ for send in sends()] == before, "one wrapper each"
assert hook.reaches()
print("ok")
"""
    assert in_a_new_process(code) == "ok"


def test_the_environment_can_switch_the_hook_off() -> None:
    code = """
import httpx
before = httpx.Client.send
from cottonpalm.request.transport import hook
hook.install()
assert httpx.Client.send is before and not hook.reaches()
print("ok")
"""
    assert in_a_new_process(code, COTTONPALM_NO_HOOK="1") == "ok"


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_library_is_patched_also_when_it_is_imported_later(name: str) -> None:
    code = f"""
import importlib, sys, threading
from importlib.machinery import SourceFileLoader
from cottonpalm.request.transport import hook
hook.install()
assert "{name}" not in sys.modules, "nobody who does without it waits for it"
assert hook.reaches()
seen = []
def imports():
    import {name}
    seen.append(hasattr({name}.Client.send, "__wrapped__"))
threads = [threading.Thread(target=imports) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
import {name}
assert seen == [True] * 8 and hook.reaches()
assert not hasattr({name}.Client.send.__wrapped__, "__wrapped__"), "one wrapper"
assert type({name}.__spec__.loader) is type({name}.__loader__) is SourceFileLoader
hook.install()
before = {name}.Client.send
importlib.reload({name})
assert {name}.Client.send is before
print("ok")
"""
    assert in_a_new_process(code) == "ok"


def test_a_library_that_is_kept_from_being_imported_is_left_alone() -> None:
    code = """
import sys
sys.modules["httpx2"] = None
from cottonpalm.request.transport import hook
hook.install()
assert hook.reaches()
try:
    import httpx2
except ImportError:
    print("ok")
"""
    assert in_a_new_process(code) == "ok"


def test_a_library_that_cannot_be_imported_says_so_as_without_the_hook(tmp_path: Path) -> None:
    (tmp_path / "httpx2.py").write_text("raise RuntimeError('broken')")
    code = f"""
import sys
from cottonpalm.request.transport import hook
sys.path.insert(0, {str(tmp_path)!r})
hook.install()
for _ in range(2):
    try:
        import httpx2
    except RuntimeError as exc:
        assert str(exc) == "broken"
    else:
        raise AssertionError
assert hook.reaches()
del sys.path[0]
import httpx2
assert hasattr(httpx2.Client.send, "__wrapped__")
try:
    import no_such_module
except ModuleNotFoundError:
    print("ok")
"""
    assert in_a_new_process(code) == "ok"


def test_a_row_that_is_the_first_to_import_its_client_is_retried_like_any_other() -> None:
    code = """
import sys
from langchain_core.runnables import RunnableLambda
from cottonpalm import BatchProcessor
def ask(text):
    import httpx
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    reply = httpx.post(sys.argv[-1] + "/chat/completions", json=body)
    return reply.json()["choices"][0]["message"]["content"]
before = "httpx" in sys.modules
print(before, BatchProcessor(RunnableLambda(ask), retry=3).batch(["hi", "you"]))
"""
    with Loopback(script=[fails(500), fails(503)]) as server:
        said = subprocess.run(
            [sys.executable, "-c", code, server.openai_url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert said.stdout == "False ['answer to: hi', 'answer to: you']\n", said.stderr
    assert server.requests == 4


def test_a_run_without_the_hook_leaves_its_requests_alone() -> None:
    account = RowAccount(a_run(hooked=False), 0)
    token = ROW.set(account)
    with client(httpx) as c:
        c.post("http://x/v1/chat/completions", json=BODY)
    ROW.reset(token)
    assert account.attempts == 0


@LIBRARIES
def test_a_later_patcher_above_sees_one_call_with_our_tries_in_it(
    http: ModuleType, row: RowAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Sentry does."""
    seen, below = [], http.Client.send

    @functools.wraps(below)
    def patched(self: Any, request: Any, **options: Any) -> Any:
        seen.append(request)
        return below(self, request, **options)

    monkeypatch.setattr(http.Client, "send", patched)
    statuses = iter([500, 200])
    with http.Client(transport=http.MockTransport(lambda _: http.Response(next(statuses), json=ANSWER))) as c:
        assert c.post("http://x/v1/chat/completions", json=BODY).status_code == 200
    assert len(seen) == 1
    assert row.attempts == 2
    assert hook.reaches()


def test_an_earlier_patcher_below_sees_one_call_per_try() -> None:
    """A patch that was there before the hook, and transports wrapped as OpenTelemetry does."""
    code = """
import functools, httpx
below, seen = httpx.Client.send, []
@functools.wraps(below)
def patched(self, request, **options):
    seen.append("send")
    return below(self, request, **options)
httpx.Client.send = patched
handle = httpx.MockTransport.handle_request
def traced(self, request):
    seen.append("transport")
    return handle(self, request)
httpx.MockTransport.handle_request = traced
from tests.request.kit import a_run, RowAccount, ROW
row = RowAccount(a_run(), 0)
ROW.set(row)
statuses = iter([500, 200])
answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(next(statuses), json=answer))) as c:
    c.post("http://x/v1/chat/completions", json={"model": "m", "messages": []})
assert seen == ["send", "transport"] * 2, seen
print(row.attempts)
"""
    assert in_a_new_process(code, PYTHONPATH=os.pathsep.join(sys.path)) == "2"


@LIBRARIES
def test_an_old_send_put_back_is_noticed(http: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook.reaches()
    with monkeypatch.context() as patch:
        patch.setattr(http.Client, "send", http.Client.send.__wrapped__)
        assert not hook.reaches()
    assert hook.reaches()


@LIBRARIES
def test_a_hook_met_twice_acts_once(http: ModuleType, row: RowAccount) -> None:
    """A transport that itself uses a client would else take a second permit, and hang at a limit of one."""
    row.run.flow.limiters = a_run(1).flow.limiters

    def forwarded(request: Any) -> Any:
        with client(http) as inner:
            return inner.post("http://y/v1/chat/completions", json=BODY)

    with http.Client(transport=http.MockTransport(forwarded)) as c:
        assert c.post("http://x/v1/chat/completions", json=BODY).status_code == 200
    assert row.attempts == 1
    assert in_flight(row.run) == 0


@LIBRARIES
def test_a_subclass_whose_send_calls_super_is_seen_and_one_that_does_not_is_left_alone(
    http: ModuleType, row: RowAccount
) -> None:
    class Calls(http.Client):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **options: Any) -> Any:
            return super().send(request, **options)

    class Skips(http.Client):  # type: ignore[name-defined, misc]
        def send(self, request: Any, **options: Any) -> Any:
            return http.Response(200, json=ANSWER, request=request)

    with Calls(transport=http.MockTransport(lambda _: http.Response(200, json=ANSWER))) as c:
        c.post("http://x/v1/chat/completions", json=BODY)
    with Skips() as c:
        c.post("http://x/v1/chat/completions", json=BODY)
    assert row.attempts == 1


def test_azure_paths_are_known_by_their_deployment(row: RowAccount) -> None:
    with client(httpx) as c:
        c.post("http://x/openai/deployments/my-gpt/chat/completions?api-version=1", json={"messages": []})
        c.post("http://x/openai/chat/completions", json={"messages": []})
    assert row.attempts == 1


def test_one_http_request_goes_out_per_try_through_the_real_stack() -> None:
    async def main() -> None:
        with Loopback(script=[fails(500), fails(502), fails(500), None]) as server:
            async with openai(server, max_retries=5) as model:
                result, row = await one(a_run(), 0, lambda: model.ainvoke("hi"))
                assert result.content == "answer to: hi"
                assert server.requests == row.attempts == 4

    asyncio.run(main())


def test_two_threads_probing_at_once_do_not_disturb_each_other() -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(hook.reaches())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
