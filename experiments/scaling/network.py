"""Hosts on one machine: a network namespace each, on one switch, behind links of a chosen rate.

        host 0 (eth0) --- port0 |        |
        host 1 (eth0) --- port1 | switch |        every link limited both ways by a token bucket
        ...                     |        |

Needs Linux, root, and the commands `ip` and `tc` (package iproute2). Nothing outside the namespaces changes, and they
are gone when the context ends.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

INTERFACE = "eth0"
RATES = {"100 Mbit/s": "100mbit", "1 Gbit/s": "1gbit", "unlimited": None}
# Where `ip netns exec` looks for files to put over those of /etc.
_OVERLAYS = Path("/etc/netns")
# A bucket of the largest packet that the kernel hands over in one piece, and half a second's worth of a queue.
_BURST, _QUEUE = "64kb", "500ms"


class Hosts:
    """What `hosts` yields.

    Attributes:
      names: of the namespaces, in the order of the hosts.
      switch: of the namespace of the switch.
    """

    def __init__(self, count: int, prefix: str):
        self.names = [f"{prefix}-{index}" for index in range(count)]
        self.switch = f"{prefix}-switch"

    def address(self, index: int) -> str:
        """IPv4 address of a host."""
        return f"10.77.0.{index + 1}"

    def command(self, index: int) -> list[str]:
        """What to put before a command so that it runs on a host."""
        return ["ip", "netns", "exec", self.names[index]]


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Makes hosts, and takes them away.

    Args:
      count: how many.

    Yields:
      `Hosts`, their links unlimited.

    Raises:
      OSError: the machine does not allow it; the text says why.
    """
    made = Hosts(count, f"sparsetrain-{os.getpid()}")
    try:
        _make(made)
        yield made
    finally:
        for name in [*made.names, made.switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(_OVERLAYS / name, ignore_errors=True)


def limit(host: str, switch: str, index: int, rate: str | None) -> None:
    """Limits one host's link both ways; may be called from a process on that host.

    Args:
      host: its namespace.
      switch: that of the switch.
      index: number of the host.
      rate: as `tc` writes it, such as "100mbit"; None for no limit.

    Raises:
      OSError: `tc` refuses.
    """
    for name, device in ((host, INTERFACE), (switch, f"port{index}")):
        # What is not there cannot be deleted.
        subprocess.run(
            ["tc", "-n", name, "qdisc", "del", "dev", device, "root"],
            capture_output=True,
            check=False,
        )
        if rate is not None:
            bucket = ["tbf", "rate", rate, "burst", _BURST, "latency", _QUEUE]
            _run("tc", "-n", name, "qdisc", "add", "dev", device, "root", *bucket)


def sent_bytes() -> int:
    """Bytes that have left this host over its link, headers and acknowledgements included."""
    return int(Path(f"/sys/class/net/{INTERFACE}/statistics/tx_bytes").read_text())


def _make(made: Hosts) -> None:
    _run("ip", "netns", "add", made.switch)
    _run("ip", "-n", made.switch, "link", "add", "bridge", "type", "bridge")
    _run("ip", "-n", made.switch, "link", "set", "bridge", "up")
    # gloo listens where the machine's own name leads.
    known = [f"{made.address(i)} host{i}" for i in range(len(made.names))]
    for index, name in enumerate(made.names):
        port = f"port{index}"
        _run("ip", "netns", "add", name)
        ends = ["name", INTERFACE, "netns", name, "type", "veth", "peer", "name", port]
        _run("ip", "link", "add", *ends, "netns", made.switch)
        _run("ip", "-n", made.switch, "link", "set", port, "master", "bridge", "up")
        _run("ip", "-n", name, "addr", "add", f"{made.address(index)}/24", "dev", INTERFACE)
        _run("ip", "-n", name, "link", "set", INTERFACE, "up")
        _run("ip", "-n", name, "link", "set", "lo", "up")
        overlay = _OVERLAYS / name
        overlay.mkdir(parents=True)
        own = f"{made.address(index)} {socket.gethostname()}"
        (overlay / "hosts").write_text("\n".join(["127.0.0.1 localhost", own, *known]) + "\n")


def _run(*command: str) -> None:
    """Raises OSError with what the command says, if it fails."""
    try:
        subprocess.run(command, capture_output=True, check=True, text=True)
    except FileNotFoundError as error:
        raise OSError(f"{command[0]} is not installed (package iproute2)") from error
    except subprocess.CalledProcessError as error:
        raise OSError(f"{' '.join(command)}: {error.stderr.strip()}") from error
