"""Fuzzing of every decoder and of the whole receive path; see docs/fuzzing.md."""
