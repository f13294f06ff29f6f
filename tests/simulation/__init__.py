"""The simulated Netbeam with everything that a source has been seen to do wrong."""

from tests.simulation.server import FaultySimulation, Request

__all__ = ["FaultySimulation", "Request"]
