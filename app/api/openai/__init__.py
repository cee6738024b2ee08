"""The OpenAI API: chat completions, legacy completions and responses."""
