"""Everything between a person or a client and the engine."""
