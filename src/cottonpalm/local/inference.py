"""The engine's own process: it loads one GGUF file, prints its address, and lives until its standard input ends.

A process of its own because the engine cannot be stopped while a request is in flight, and blocks or crashes a process
that ends at such a moment. Here the process simply ends, also if its parent was killed.
"""

import json
import os
import sys


def load(wish: dict[str, object]) -> object:
    """Start the server. It listens on a free port of 127.0.0.1."""
    import xllamacpp  # noqa: PLC0415 - a missing package is to be reported as such

    params = xllamacpp.CommonParams()
    params.model.path = wish["path"]
    params.model_alias = {wish["alias"]}  # else answers would carry the file's path as the model's name
    params.n_ctx = wish["n_ctx"]
    params.n_parallel = wish["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wish["threads"]
    params.verbosity = -1
    return xllamacpp.Server(params)


def main() -> None:
    """Answer with one line of JSON, {"address"} or {"error"}; then wait."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the engine prints is not an answer
    try:
        server = load(json.loads(sys.argv[1]))
        said = {"address": server.listening_address}  # type: ignore[attr-defined]  # the wheel has no types
    except Exception as error:  # noqa: BLE001 - told to the parent, who words it
        said = {"error": str(error), "missing": isinstance(error, ImportError)}
    answer.write(json.dumps(said) + "\n")
    answer.close()
    if "address" in said:
        sys.stdin.read()
    os._exit(0)  # without the engine's destructors, which wait for requests in flight


if __name__ == "__main__":
    main()
