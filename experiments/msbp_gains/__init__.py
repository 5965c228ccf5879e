"""Where the gains of memorized sparse backpropagation come from: tuned baselines, and controls for each explanation."""
