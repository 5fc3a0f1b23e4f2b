"""Made-up channels for trials and tutorials, and what their models are compared with. Nothing here is needed to run a federation."""

from dayfly.federation.deployed.demo_world import DemoWorld, area_under_curve, logistic_scores, synthetic
from dayfly.federation.runs.vertical import VerticalPlan, scores_of

__all__ = ["DemoWorld", "VerticalPlan", "area_under_curve", "logistic_scores", "scores_of", "synthetic"]
