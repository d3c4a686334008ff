"""Model-based tests: Hypothesis drives engines against each other and against the reference."""
