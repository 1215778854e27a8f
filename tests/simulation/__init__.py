"""
A simulated world, in which the real code runs.
"""
