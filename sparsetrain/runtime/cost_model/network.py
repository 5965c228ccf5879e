"""Networks by the two numbers that the model needs."""

from typing import NamedTuple

from sparsetrain.runtime.cost_model.arguments import Numbers, at_least


class Network(NamedTuple):
    """A worker's link: it sends and receives at the same time, to and from one other worker at a time.

    Attributes:
      latency: alpha, seconds a message takes beside its bits, software included.
      bandwidth: beta, bits a second in each direction.
      name: as tables print it.
    """

    latency: float
    bandwidth: float
    name: str = ""

    def seconds(self, messages: Numbers, bits: Numbers) -> Numbers:
        """Time of messages that follow one another.

            alpha messages + bits / beta

        Args:
          messages: number of them.
          bits: of all of them together.

        Returns:
          Seconds.

        Raises:
          ValueError: a negative latency, or a bandwidth that is not positive.

        Example:
          >>> float(Network(latency=1e-3, bandwidth=1e6).seconds(messages=2, bits=3e6))
          3.002
        """
        alpha = at_least("latency", self.latency, 0, "in seconds a message, so 50 us is 5e-5")
        beta = at_least(
            "bandwidth", self.bandwidth, 0, "in bits a second, so 1 Gbit/s is 1e9", open_end=True
        )
        return alpha * messages + bits / beta


# Assumptions, none of them measured here: `fit` gives the numbers of a network that was.
#
# Bandwidths are line rates in one direction. Protocols take some percent of them. Of NVLink's 900 GB/s (fourth
# generation, 18 links: NVIDIA's data sheet of the H100) half goes each way. It joins the GPUs of one machine, 8 of
# them as a rule and 72 in the largest: whatever stands in a table beyond that is an extrapolation.
#
# Latencies of Ethernet are assumed: a message through TCP, the kernel and a switch. Those of InfiniBand and NVLink are
# what NCCL assumes for a hop of a ring with its protocol Simple (the table hwLat in its src/graph/tuning.cc, whose
# numbers change with the version; without NCCL's fixed cost of about 10 us a collective).
NETWORKS = {
    network.name: network
    for network in (
        Network(latency=50e-6, bandwidth=1e9, name="1 GbE"),
        Network(latency=25e-6, bandwidth=10e9, name="10 GbE"),
        Network(latency=9.6e-6, bandwidth=100e9, name="100 Gb InfiniBand"),
        Network(latency=3.4e-6, bandwidth=3.6e12, name="NVLink"),
    )
}
