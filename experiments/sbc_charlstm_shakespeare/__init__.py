"""CharLSTM on Shakespeare and the grid of sparsities of "Sparse Binary Compression" (arXiv 1805.08768)."""
