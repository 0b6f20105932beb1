"""Made-up workloads, pure functions of their parameters: the same parameters, the same requests."""

from understudy.workload.generators.registry import generator, known_generators

__all__ = ["generator", "known_generators"]
