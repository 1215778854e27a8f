"""
Bugs that are planted into the real code, one at a time: does the simulation find them?
"""
