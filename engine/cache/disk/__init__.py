"""The warm tier: block files, their index and the one thread that reads and writes them."""
