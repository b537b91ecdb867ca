"""FastAPI, thin: routes, errors and middleware around the pipeline. The only room that knows HTTP."""
