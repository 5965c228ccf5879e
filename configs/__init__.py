"""One module per configuration; each has a pure `get_config()`."""
