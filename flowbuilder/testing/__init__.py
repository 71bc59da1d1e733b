"""Builders for tests of FlowBuilder itself and of plugins: tiny plans instead of big fixtures."""

from flowbuilder.testing.attempt_rows import rows_of
from flowbuilder.testing.plans import bind, edges_of, plan_of

__all__ = ["bind", "edges_of", "plan_of", "rows_of"]
