"""The version of Stoker, read by the build and by ``stoker --version``."""

__version__ = "0.1.0"
