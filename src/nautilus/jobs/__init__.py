"""WORK THAT OUTLIVES A REQUEST: jobs, and the webhooks that tell of their end."""
