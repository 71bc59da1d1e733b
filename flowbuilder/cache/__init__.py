"""Outputs of earlier runs used again: what decides an output, where outputs are kept, and one
computation at a time for whoever wants the same.

Knows neither tasks nor the engine: `flowbuilder.tasks` says what decides an output.
"""
