"""What a model's config says about its layers' caches: which layer keeps what, and how much."""
