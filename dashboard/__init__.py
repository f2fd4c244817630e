"""Nucleus Lens: watch GPT-2 choose each next token, and see where the nucleus (top-p) cut falls."""
