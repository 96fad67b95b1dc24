"""Fakes for testing chains under faults: a clock that jumps, a scripted chain, a flaky transport.

An example:

    def test_a_wait_of_an_hour_is_kept() -> None:
        async def main() -> float:
            await BatchProcessor(my_chain).abatch(["hi"])
            return asyncio.get_running_loop().time()

        assert virtual_run(main()) >= 3600.0
"""

from cottonpalm.testing.chains import ScriptedChain
from cottonpalm.testing.loop import CutShort, VirtualLoop, cancel_at, virtual_run
from cottonpalm.testing.transport import FlakyTransport, Flaw

__all__ = ["CutShort", "FlakyTransport", "Flaw", "ScriptedChain", "VirtualLoop", "cancel_at", "virtual_run"]
