"""The runs of a store as Prometheus reads them: what `/metrics` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from cottonpalm.live.reading import OLD_S
from cottonpalm.observers.words.formatting import label
from cottonpalm.types import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cottonpalm.live.reading import Standing

TYPE: Final = CONTENT_TYPE_LATEST


def exposed(standings: Sequence[Standing]) -> bytes:
    """All of it, in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Runs(standings))
    return generate_latest(registry)


class _Runs:
    """A collector over what was read just now."""

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._standings = standings

    def collect(self) -> Iterator[Any]:
        """See `prometheus_client`."""
        going = GaugeMetricFamily(
            "cottonpalm_run_active", "Whether a process works on the run.", labels=["run"]
        )
        total = GaugeMetricFamily(
            "cottonpalm_run_rows", "Rows of the input, where that is known.", labels=["run"]
        )
        rows = CounterMetricFamily("cottonpalm_store_rows", "Rows that are stored.", labels=["run", "status"])
        cost = CounterMetricFamily(
            "cottonpalm_store_cost_dollars", "What stored rows cost, in US dollars.", labels=["run"]
        )
        flying = GaugeMetricFamily("cottonpalm_requests_in_flight", "Requests in flight.", labels=["run"])
        limit = GaugeMetricFamily(
            "cottonpalm_requests_limit", "Requests that may be in flight.", labels=["run"]
        )
        asked = CounterMetricFamily(
            "cottonpalm_model_requests", "Tries of requests in the run's last life.", labels=["run", "model"]
        )
        tokens = CounterMetricFamily(
            "cottonpalm_model_tokens", "Tokens in the run's last life.", labels=["run", "model", "direction"]
        )
        names = _labels(each.info.name for each in self._standings)
        for each, name in zip(self._standings, names, strict=True):
            run = [name]
            going.add_metric(run, float(each.going))
            if each.total is not None:
                total.add_metric(run, each.total)
            rows.add_metric([*run, "ok"], each.ok)
            rows.add_metric([*run, "failed"], each.failed)
            cost.add_metric(run, each.info.cost_pico / PICO)
            if each.said is not None and each.age_s <= OLD_S:  # what stood long ago is no number of now
                flying.add_metric(run, each.said["requests"])
                limit.add_metric(run, each.said["limit"])
            by_model = each.life.report.by_model if each.life is not None else {}
            for model, used in zip(_labels(by_model), by_model.values(), strict=True):
                asked.add_metric([*run, model], used.requests)
                tokens.add_metric([*run, model, "input"], used.input_tokens)
                tokens.add_metric([*run, model, "output"], used.output_tokens)
        yield from (going, total, rows, cost, flying, limit, asked, tokens)


def _labels(names: Iterable[str]) -> list[str]:
    """Each name as a label. Where some are alike by then, the later ones have a number: no series may come twice."""
    labels: dict[str, None] = {}
    for name in names:
        short, number = label(name), 1
        unique = short
        while unique in labels:
            number += 1
            unique = f"{short} ({number})"
        labels[unique] = None
    return list(labels)
