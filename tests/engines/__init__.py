"""
Real object stores that tests start: SeaweedFS and Ceph.

A test takes one with the fixtures `seaweedfs`, `ceph`, or `engine` (once with each), which
are an `Engine`; `place` is a prefix in each that nothing else uses.  All processes of a test
run share one SeaweedFS, which ends with the last of them; a test that kills it takes
`own_seaweedfs`.

``python -m tests.engines.seaweedfs`` runs one until Ctrl-C, and prints how to reach it.
"""
