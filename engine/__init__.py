"""The inference engine: cache, scheduler, batching, models. Knows no screens and no servers."""
