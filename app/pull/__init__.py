"""Brings models from a hub into the Hugging Face cache of this machine."""
