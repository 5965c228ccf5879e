"""Grow-and-prune on CIFAR-10: a residual network whose stages are the partitions."""
