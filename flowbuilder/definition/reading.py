"""What reading a workflow gives."""

from __future__ import annotations

import msgspec

from flowbuilder.errors import Problem, WorkflowSyntaxError, WorkflowValidationError
from flowbuilder.model.spec import Source, WorkflowSpec

__all__ = ["Reading"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of reading a workflow.

    Parameters
    ----------
    spec : WorkflowSpec or None
        The workflow, if nothing is wrong with it.
    problems : tuple of Problem
        All of them in the order of the text; warnings do not keep ``spec`` from being there.
    draft : WorkflowSpec or None
        The workflow with wrong fields at their defaults, to look for further problems; never to
        run. None if too little of it could be read. Without errors the same as ``spec``.
    source : Source or None
        The text; None if it could not be read at all.
    """

    spec: WorkflowSpec | None
    problems: tuple[Problem, ...] = ()
    draft: WorkflowSpec | None = None
    source: Source | None = None

    def require(self) -> WorkflowSpec:
        """Give the workflow.

        Returns
        -------
        WorkflowSpec
            The workflow.

        Raises
        ------
        WorkflowSyntaxError
            If the text is not YAML.
        WorkflowValidationError
            If it is, but not a workflow; carries every problem.
        """
        if self.spec is not None:
            return self.spec
        first = self.problems[0]
        if first.code == "syntax":
            raise WorkflowSyntaxError(first.message, location=first.location, hint=first.hint)
        raise WorkflowValidationError(self.problems)
