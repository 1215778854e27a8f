"""
A simulated file system: what the kernel has in memory, and what would be left if the power
failed now, are two things.
"""

from tests.simulation.filesystem.faults import Faults
from tests.simulation.filesystem.files import SimulatedFiles
from tests.simulation.filesystem.profiles import PROFILES, Profile
from tests.simulation.filesystem.system import FileSystem

__all__ = ["PROFILES", "Faults", "FileSystem", "Profile", "SimulatedFiles"]
