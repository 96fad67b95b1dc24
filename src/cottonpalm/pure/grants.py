"""Whether a request's money is there."""

from __future__ import annotations

from enum import Enum


class Grant(Enum):
    """The three answers to a request for money."""

    OK = "ok"
    WAIT = "wait"  # reservations in flight may give back what is missing
    STOP = "stop"  # even if all of them came back whole, it would not be enough


def grant(ceiling: int | None, spent: int, reserved: int, bound: int) -> Grant:
    """Decide on one request of at most `bound`, in integer pico-dollars.

    What is spent never comes back, what is reserved may. So `spent + bound` above the ceiling is final,
    whatever is in flight, and where nothing is reserved there is never a reason to wait.

    Args:
        ceiling: the sum that must not be passed; None for no ceiling.
        spent: what finished requests cost.
        reserved: the bounds of all requests in flight.
        bound: the most this request can cost.
    """
    if ceiling is None or spent + reserved + bound <= ceiling:
        return Grant.OK
    return Grant.WAIT if spent + bound <= ceiling else Grant.STOP
