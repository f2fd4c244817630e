"""What the claims about speed rest on; each runs as ``python -m benchmarks.<name>``."""
