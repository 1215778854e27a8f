"""
Scripted senders: each sends in its own way, and notes what it is told.
"""
