"""No test here judges by measured seconds, and Hypothesis' deadline would."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
