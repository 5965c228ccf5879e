"""DiLoCo, local steps with an outer optimizer, with and without compression of what is exchanged."""
