"""The import program: one source in, canonical rows out. The service starts one for each attempt."""
