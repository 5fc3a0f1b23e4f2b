"""How runs are shown: one line per step, and what is known of privacy."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

__all__ = ["step_line", "stepper"]


def step_line(step: Mapping[str, Any]) -> str:
    """A step in words."""
    if step.get("step") == "round":
        lost = f", lost: {', '.join(step['lost'])}" if step.get("lost") else ""
        return (
            f"round {step['number']}: {step['rows']:.0f} rows of {', '.join(step['included'])}, deviance {step['deviance']:.6g},"
            f" largest step {step['largest_step']:.2g}{lost}"
        )
    if step.get("step") == "release":
        spent = "exact: no privacy" if step.get("rho") is None else f"rho spent {step['rho']:.4f}"
        return f"release {step['name']}: {step['numbers']} numbers opened, {spent}"
    if step.get("step") == "message":
        return f"message {step['number']} of {step['of']}: {step['kind']}"
    return ", ".join(f"{name} {value}" for name, value in step.items())


def stepper(console: Console) -> Callable[[Mapping[str, Any]], None]:
    """Prints each step."""

    def shown(step: Mapping[str, Any]) -> None:
        console.print(step_line(step), soft_wrap=True)

    return shown
