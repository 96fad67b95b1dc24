"""Prices of Qwen and Doubao at their addresses in China, which the price list of genai-prices does not have.

From models.dev (github.com/anomalyco/models.dev, files of May to August 2026, read 27 November 2026), which names the
makers' own lists: help.aliyun.com/zh/model-studio/model-pricing and volcengine.com/docs/82379/1544106. Those are in
yuan; the dollars are as converted there, at 6.4 to 7.0 yuan. Left out is what it contradicts itself about, and the
models whose answers cost more when they are long (Doubao Seed 1.6 and 1.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from cottonpalm.request.money.rules.rates import Extent, Rates, per_token

if TYPE_CHECKING:
    from cottonpalm.types import Usage


class Step(NamedTuple):
    """Dollars for a million tokens, where the prompt has more than so many tokens.

    Attributes:
        above: tokens of the prompt.
        input: of the prompt.
        output: of the answer.
        read: of the prompt, read from the provider's cache.
        written: of the prompt, written to its cache; 0: as any.
        thinking: of the answer, where the model thinks first; 0: as any.
    """

    above: int
    input: float
    output: float
    read: float
    written: float = 0
    thinking: float = 0


_QWEN: Final[dict[str, tuple[Step, ...]]] = {
    "qwen-turbo": (Step(0, 0.044, 0.087, 0.009, thinking=0.431),),
    "qwen-flash": (
        Step(0, 0.022, 0.216, 0.005, 0.028),
        Step(128_000, 0.087, 0.861, 0.018, 0.109),
        Step(256_000, 0.173, 1.721, 0.035, 0.216),
    ),
    "qwen-plus": (
        Step(0, 0.115, 0.287, 0.023, 0.144, 1.147),
        Step(128_000, 0.345, 2.868, 0.069, 0.431, 3.441),
        Step(256_000, 0.689, 6.881, 0.138, 0.861, 9.175),
    ),
    "qwen-max": (Step(0, 0.345, 1.377, 0.072),),
    "qwen3-max": (
        Step(0, 0.359, 1.434, 0.072, 0.448),
        Step(32_000, 0.574, 2.294, 0.115, 0.717),
        Step(128_000, 1.004, 4.014, 0.201, 1.255),
    ),
    "qwen3.6-flash": (Step(0, 0.165, 0.99, 0.017, 0.206), Step(256_000, 0.66, 3.961, 0.066, 0.825)),
    "qwen3.7-flash": (
        Step(0, 0.03125, 0.125, 0.003125, 0.0390625),
        Step(32_000, 0.09375, 0.375, 0.009375, 0.1171875),
        Step(256_000, 0.1875, 0.75, 0.01875, 0.234375),
    ),
    "qwen3.7-plus": (Step(0, 0.276, 1.101, 0.056, 0.344), Step(256_000, 0.826, 3.301, 0.166, 1.032)),
    "qwen3.7-max": (Step(0, 1.65, 4.951, 0.33, 2.063),),
    "qwen3.8-flash": (Step(0, 0.11905, 0.40179, 0.01488, 0.18601),),
    "qwen3.8-max": (Step(0, 1.65, 4.951, 0.206, 2.0625),),
}
_DOUBAO: Final[dict[str, tuple[Step, ...]]] = {
    "doubao-seed-2-0-mini-260428": (
        Step(0, 0.02969, 0.29687, 0.00594),
        Step(32_000, 0.05937, 0.59374, 0.01187),
        Step(128_000, 0.11875, 1.18747, 0.02375),
    ),
    "doubao-seed-2-0-lite-260428": (
        Step(0, 0.08906, 0.53436, 0.01781),
        Step(32_000, 0.13359, 0.80154, 0.02672),
        Step(128_000, 0.26718, 1.60308, 0.05344),
    ),
    "doubao-seed-2-0-pro-260215": (
        Step(0, 0.47499, 2.37494, 0.095),
        Step(32_000, 0.71248, 3.56241, 0.1425),
        Step(128_000, 1.42496, 7.12482, 0.28499),
    ),
    "doubao-seed-2-1-turbo-260628": (Step(0, 0.4453, 2.22651, 0.08906),),
    "doubao-seed-2-1-pro-260628": (Step(0, 0.8906, 4.45301, 0.17812),),
}
LISTED: Final = {"dashscope.aliyuncs.com": _QWEN, "ark.cn-beijing.volces.com": _DOUBAO}


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedRates(Rates):
    """Rates that depend on the length of the prompt, and on whether the model thinks. The own ones are the dearest.

    Attributes:
        steps: from the shortest prompts on.
    """

    steps: tuple[Step, ...]

    def cost(self, usage: Usage) -> int:
        """Return the cost at the step that the prompt reaches."""
        step = next(
            step for step in reversed(self.steps) if usage.input_tokens > step.above or not step.above
        )
        return Rates.cost(_rates(step, thinks=usage.reasoning_tokens > 0), usage)

    def bound(self, extent: Extent) -> int:
        """Return the most of all steps that such a prompt may reach."""
        within = [step for step in self.steps if extent.input_tokens > step.above or not step.above]
        return max(Rates.bound(_rates(step, thinks=True), extent) for step in within)


def look_up(model: str, url: str | None) -> Rates | None:
    """Return the model's rates at this address, or None if the list does not have it there.

    Args:
        model: its name; a dated version is another model.
        url: the address of the request; without one nothing is known, as another region has other prices.
    """
    host = urlsplit(url if url and "://" in url else f"https://{url}").hostname
    steps = LISTED.get(host or "", {}).get(model)
    if steps is None:
        return None
    dearest = _rates(steps[-1], thinks=True)
    numbers = {name: getattr(dearest, name) for name in Rates.__slots__}
    return SteppedRates(**numbers, steps=steps)


def _rates(step: Step, *, thinks: bool) -> Rates:
    into, out = per_token(step.input), per_token(step.thinking if thinks and step.thinking else step.output)
    written = per_token(step.written) if step.written else into
    return Rates(
        input=into,
        output=out,
        cache_read=per_token(step.read),
        cache_write=written,
        cache_write_1h=written,
        dearest_input=max(into, written),
        dearest_output=out,
        dearest_media=max(into, written, out),
    )
