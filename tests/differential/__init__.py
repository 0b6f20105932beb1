"""Generated HTTP requests to the real vLLM and to ours, and a comparison of the answers; see README.md."""
