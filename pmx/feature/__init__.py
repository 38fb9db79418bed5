"""Kernels, the step graph built from them, their Polars path, and the comparison of the two."""
