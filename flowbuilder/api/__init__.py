"""The Python face: load, write and run workflows, look at their runs. Everything public is
re-exported by `flowbuilder`.
"""
