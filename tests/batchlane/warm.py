"""Imported by the server that forks programs: see `worker`."""

from tests.batchlane.worker import warm

warm()
