"""Settings of hypothesis for all tests: a slow or cold machine is no failure, and every run draws anew."""

from hypothesis import HealthCheck, settings

settings.register_profile("understudy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("understudy")
