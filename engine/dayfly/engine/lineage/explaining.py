"""The questions that every lineage store answers once it can find a fragment."""

from abc import ABC, abstractmethod

from dayfly.engine.errors import LineageError

from .explain import Explanation, FragmentLineage, explain_field

__all__ = ["Explaining"]


class Explaining(ABC):
    """`explain` and `explain_all` over `fragment`."""

    @abstractmethod
    def fragment(self, jti: str) -> FragmentLineage:
        """Everything kept about fragment `jti`."""

    def explain(self, jti: str, field: str) -> Explanation:
        """Why the audience of fragment `jti` sees `field`.

        Raises:
            LineageError: No such fragment or field, or the fragment left the field out.
        """
        explanation = explain_field(self.fragment(jti), field)
        if explanation is None:
            raise LineageError(
                f"field={field!r} must be in fragment {jti!r}, which left it out; ask for another field"
            )
        return explanation

    def explain_all(self, jti: str) -> tuple[Explanation, ...]:
        """Explanations of all fields of fragment `jti`, in the trigger's order.

        Raises:
            LineageError: No such fragment.
        """
        fragment = self.fragment(jti)
        found = (explain_field(fragment, spec.name) for spec in fragment.shape.fields)
        return tuple(explanation for explanation in found if explanation is not None)
