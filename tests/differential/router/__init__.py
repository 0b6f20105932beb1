"""The router before the real vLLM: `make test-router-vllm`."""
