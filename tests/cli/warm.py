"""Imported by the server that forks commands: see `tests.support.programs`."""

import gc
from importlib import import_module

for name in (
    "app",
    "commands.run",
    "commands.plan",
    "commands.status",
    "commands.report",
    "screen",
    "chains.build",
):
    import_module(f"cottonpalm.cli.{name}")
for name in ("langchain_openai", "openai.resources.chat", "cottonpalm.engine.build", "rich.live"):
    import_module(name)
gc.collect()
