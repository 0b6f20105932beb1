"""One emulated vLLM worker over HTTP: vLLM's API, metrics and KV events, in front of the simulator's engine."""
