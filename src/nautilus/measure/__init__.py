"""How good and how fast: load against a server, and word error rate."""
