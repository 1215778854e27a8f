"""
How file systems differ in what they promise.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The promises of a file system.

    :ivar name: for the trace.
    :ivar ordered: whether changes of names become durable in their order, as in a journal.
    :ivar syncs_names: whether fsync of a file makes its names durable, and a rename is durable
        as a whole; otherwise both names may be left, but never neither.
    :ivar tears: whether part of a page may have been written.
    :ivar noreplace: whether it has ``RENAME_NOREPLACE``.
    :ivar attributes: whether it has extended attributes.
    :ivar parallel_syncs: whether the kernel syncs several files at once.
    :ivar splices: whether it can be spliced into.
    :ivar reuses_numbers: whether a new file may get the inode number of one that is gone.
    :ivar counts_folders: whether the link count of a folder is that of the folders in it.
    :ivar pipe_size: capacity of a pipe in bytes.
    """

    name: str
    ordered: bool = True
    syncs_names: bool = True
    tears: bool = False
    noreplace: bool = True
    attributes: bool = True
    parallel_syncs: bool = True
    splices: bool = True
    reuses_numbers: bool = True
    counts_folders: bool = True
    pipe_size: int = 1024 * 1024


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("ext4"),
        Profile("xfs"),
        Profile("btrfs", ordered=False, reuses_numbers=False, counts_folders=False),
        Profile(
            "weakest",
            ordered=False,
            syncs_names=False,
            tears=True,
            noreplace=False,
            attributes=False,
            parallel_syncs=False,
            splices=False,
            pipe_size=65536,
        ),
    )
}
"""ext4 (``data=ordered``), xfs, btrfs, and the weakest that POSIX allows."""
