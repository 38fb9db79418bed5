"""A fitted candidate to a bundle: the core files, the measured budget, the seal."""

PROFILES = ("ort", "ort-compat", "core")
"""Opset profiles of a step graph, as `pmx.pack.profile` writes them."""
