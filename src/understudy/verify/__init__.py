"""How close to vLLM are we: evidence, recorded or drawn afresh, counted and never argued.

The files `judge*.py` are the other side: scripts for vLLM's own Python that know nothing of understudy.
"""
