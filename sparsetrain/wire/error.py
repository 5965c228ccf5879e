"""What a receiver raises about a message that it cannot trust."""


class WireError(ValueError):
    """A message that is damaged, made for another version or tree, or forged."""
