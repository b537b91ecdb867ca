"""Who may. Knows nothing of HTTP, models or speech."""
