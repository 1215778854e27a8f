"""
What must be true of a world: after each crash, after each start, and at the end.
"""
