"""Environments: what carries SecPDUs between two associations. Sans-I/O; they never import the engine."""
