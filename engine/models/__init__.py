"""Models on this machine: finding, importing, and speaking their chat format."""
