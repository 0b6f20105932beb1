"""Made-up workloads, each a pure function of its parameters: the same parameters, the same requests, anywhere."""

from understudy.workload.generators.registry import generator, known_generators

__all__ = ["generator", "known_generators"]
