"""The targets; ``fuzz.registry`` says what there is."""
