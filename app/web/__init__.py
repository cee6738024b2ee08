"""The dashboard in a browser, attached to a Stoker that runs."""
