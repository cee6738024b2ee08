"""The rooms that run tensors: devices, model runner, layer caches, sampling."""
