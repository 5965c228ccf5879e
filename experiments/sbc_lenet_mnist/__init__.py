"""The MNIST column of table 2 of "Sparse Binary Compression" (arXiv 1805.08768): LeNet5 on four clients."""
