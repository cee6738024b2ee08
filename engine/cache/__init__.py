"""The block-pool KV cache: pure bookkeeping, no mlx, no clock, no I/O."""
