"""Dynamic layer-wise sparsification against its limits: one threshold for each layer, and one for all."""
