"""The verbs of the command line, one file each, loaded only when called.

A verb is a thin door: ``main(args)`` reads flags, calls a function that anyone can import, and returns the exit code.
"""
