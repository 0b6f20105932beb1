"""`understudy up`: emulated workers in processes of their own, and the router in front of them."""
