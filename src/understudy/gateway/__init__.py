"""The router over HTTP: a reverse proxy in front of vLLM's servers, or stand-ins for them, that chooses by `understudy.routing`.

Bodies pass as they are. A request is tried again only where nothing of it has begun.
"""
