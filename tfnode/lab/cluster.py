"""The processes of a run on several machines, as `TF_CONFIG` names them."""

import json
import os
from typing import Any, NamedTuple

EXAMPLE = (
    '{"cluster": {"worker": ["localhost:12345", "localhost:12346"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class Cluster(NamedTuple):
    """The processes of a run.

    Attributes:
        jobs: Job to addresses: `"worker"`, and `"chief"` where there is one.
        job, index: This process.
    """

    jobs: dict[str, Any]
    job: str
    index: int  # type: ignore[assignment]  # Tuples have a method of this name.

    @property
    def size(self) -> int:
        """Number of processes."""
        return sum(len(addresses) for addresses in self.jobs.values())

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run directory: the chief, else the first worker."""
        return self.index == 0 and self.job == min(self.jobs)

    @property
    def name(self) -> str:
        """The name of this process for people."""
        return f"{self.job} {self.index}"


def cluster() -> Cluster:
    """Return the processes in the environment variable `TF_CONFIG`.

    Raises:
        ValueError: If the variable is missing or is not what TensorFlow needs; with an example.
    """
    text = os.environ.get("TF_CONFIG")
    try:
        if not text:
            raise ValueError("it is not set")
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        found = Cluster(dict(jobs), task["type"], task["index"])
        _check_cluster(found)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            "strategy=multi_worker needs the environment variable TF_CONFIG, in JSON: the "
            "addresses of all processes, the same in each, and which of them this one is. "
            f"For the first of two on this machine: TF_CONFIG='{EXAMPLE}'. "
            f"Received: {reason}: TF_CONFIG={text if text is None else text[:200]!r}"
        ) from error
    return found


def _check_cluster(found: Cluster) -> None:
    if not found.jobs.get("worker") or not set(found.jobs) <= {"chief", "worker"}:
        raise ValueError(f"jobs must be worker and perhaps chief, not {sorted(found.jobs)}")
    if len(found.jobs.get("chief", ["one"])) != 1:
        raise ValueError("there can be one chief only")
    everything = [address for addresses in found.jobs.values() for address in addresses]
    if not all(isinstance(addresses, list) for addresses in found.jobs.values()):
        raise ValueError("addresses must be in lists")
    for address in everything:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"an address must be host:port, not {address!r}")
    if len(set(everything)) != len(everything):
        raise ValueError("an address occurs twice")
    addresses = found.jobs.get(found.job)
    if addresses is None or type(found.index) is not int or not 0 <= found.index < len(addresses):
        raise ValueError(f"there is no {found.job} {found.index}")
