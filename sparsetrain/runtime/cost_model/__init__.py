"""Seconds of an exchange by latency and bandwidth: which method wins, with how many workers, on which network.

    seconds = alpha messages + bits / beta                                             of the busiest worker

`exchange.py` counts messages and bits of every method, `network.py` names alpha and beta, `prediction.py` adds what
selecting and adding up cost, `crossover.py` finds where sparse begins to win, `calibration.py` fits alpha and beta
to measured runs and says how wrong the model is. Numbers may be floats or arrays that broadcast against each other.

What is not modelled: workers that wait for a slower one, other traffic on the network, a switch that cannot carry
all links at once, links of different speed on the way (nodes within a cluster).
"""

from sparsetrain.runtime.cost_model.calibration import Errors, Measured, fit, validate
from sparsetrain.runtime.cost_model.crossover import crossover
from sparsetrain.runtime.cost_model.exchange import METHODS, Exchange, Traffic, traffic
from sparsetrain.runtime.cost_model.network import NETWORKS, Network
from sparsetrain.runtime.cost_model.prediction import Cost, Work, predict

__all__ = [
    "METHODS",
    "NETWORKS",
    "Cost",
    "Errors",
    "Exchange",
    "Measured",
    "Network",
    "Traffic",
    "Work",
    "crossover",
    "fit",
    "predict",
    "traffic",
    "validate",
]
