"""A request as the rules of limits remember it, as if a limiter had granted it."""

from __future__ import annotations

from cottonpalm.request.limiter.rules.sent import NOTHING, Sent, Stretch

ALONE = Stretch(0, 0, 1.0, 0, 0.0, 0)


def sent_at(at_s: float, ordinal: int, ask: float = 0.0, kind: type[Sent] = Sent) -> Sent:
    """Sent then, as the so-manieth in flight, expected to use so many tokens."""
    sent = kind()
    sent.at_s, sent.ordinal, sent.ask = at_s, ordinal, ask
    sent.known, sent.use, sent.sent, sent.stretch = False, NOTHING, NOTHING, ALONE
    return sent
