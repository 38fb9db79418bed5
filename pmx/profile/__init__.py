"""What a history can carry: its assets, channels, sampling, regimes and orders, what may be claimed of it, and what would help most."""
