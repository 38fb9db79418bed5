"""A fitted candidate to a bundle: the core files, the measured budget, the seal."""
