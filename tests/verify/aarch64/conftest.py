"""Few examples: an emulated processor is some fifty times slower."""

from hypothesis import settings

settings.register_profile("aarch64", max_examples=5, stateful_step_count=8, deadline=None)
