"""Hypothesis without a deadline: a busy machine is no defect, and the suite's own time limit ends what hangs."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
