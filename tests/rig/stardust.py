"""The rig with the simulated Stardust in place of, or beside, the simulated Netbeam."""

from types import TracebackType
from typing import Any

from collector.source.simulated.network import SimulatedNetwork
from tests.rig.rig import Rig
from tests.servers.ports import free_port
from tests.simulation.stardust import FaultyStardust


def stardust_network(count: int) -> SimulatedNetwork:
    """So many interfaces with names that both sources have: Stardust's resources hold no escape without need."""
    speeds = SimulatedNetwork.synthetic(count).speeds
    return SimulatedNetwork([(resource.replace("%2D", "-"), speed) for resource, speed in speeds.items()])


class StardustRig(Rig):
    """A rig whose collectors ask Stardust, unless they are started with SOURCE=netbeam: that is there too."""

    def __init__(self, network: SimulatedNetwork, *arguments: Any, **options: Any) -> None:
        super().__init__(network, *arguments, **options)
        self.stardust = FaultyStardust(network, clock=self.clock, port=free_port())
        self.stardust.send_date = True

    def __enter__(self) -> "StardustRig":
        self.stardust.start()
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.stardust.stop()

    def environment(self, **settings: object) -> dict[str, str]:
        """See Rig.environment."""
        own = {"SOURCE": "stardust", "STARDUST_URL": self.stardust.url, "INITIAL_LOOKBACK": str(round(self.lookback_s))}
        return super().environment(**{**own, **settings})
