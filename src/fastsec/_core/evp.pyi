# No Python names: C level for pk and dh.
