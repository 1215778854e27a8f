"""The settings of one run: how much, how often, which contenders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Settings:
    """Sizes are in bytes, times in seconds."""

    directory: Path
    out: Path | None
    """Where the report goes; None: it is only printed."""
    rounds: int = 5
    large_size: int = 2 * GIB
    small_count: int = 20_000
    small_size: int = 4 * KIB
    parallel: int = 64
    medium_count: int = 5_000
    medium_size: int = 100_000
    medium_parallel: int = 16
    durable_count: int = 20_000
    plain_order_count: int = 4_000
    connections: int = 9_500
    trickle_interval: float = 10.0
    latency_count: int = 3_000
    http_size: int = GIB
    http_count: int = 20_000
    http_parallel: int = 16
    tus_chunk: int = MIB
    quick: bool = False
    before: Path | None = None
    """The interpreter with an earlier version of the daemon; None: there is none."""
    cases: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    daemon_options: tuple[str, ...] = ()

    def wants_peer(self, name: str) -> bool:
        """Return whether a contender was selected; without a selection, all are."""
        return not self.peers or any(
            name == peer or name.startswith(f"{peer}-") for peer in self.peers
        )


QUICK = {
    "rounds": 1,
    "large_size": 64 * MIB,
    "small_count": 1_000,
    "medium_count": 200,
    "durable_count": 500,
    "plain_order_count": 100,
    "connections": 300,
    "trickle_interval": 1.0,
    "latency_count": 200,
    "http_size": 32 * MIB,
    "http_count": 500,
}
"""What `--quick` changes: enough to see that everything works, too little to measure."""

QUICK_PEERS = (
    "floor", "textbook", "plain", "dd", "sequence", "ncat", "socat", "ours", "nginx", "uvicorn",
)  # fmt: skip
"""The contenders of a quick run that selects none."""
