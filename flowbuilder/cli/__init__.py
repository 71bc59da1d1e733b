"""The command line. Each command is a module with ``add_parser`` and a function that returns an
exit code.
"""
