"""One live conversation: what its utterances are, and the tasks that carry it."""
