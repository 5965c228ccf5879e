"""Tables 2 and 5 and figures 2, 3 and 5 of "Memorized Sparse Backpropagation" (arXiv 1905.10194) on MNIST."""
