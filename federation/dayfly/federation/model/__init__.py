"""Trained models: coefficients with standard errors, a card, files, and scores."""

from .card import CardRelease, DataSetCard, ModelCard
from .events import SCORED, catalog_entry, score_events
from .files import load_model, save_model
from .joint import Coefficient, JointModel
from .making import model_of_glm, model_of_vertical, scoring_of

__all__ = [
    "SCORED",
    "CardRelease",
    "Coefficient",
    "DataSetCard",
    "JointModel",
    "ModelCard",
    "catalog_entry",
    "load_model",
    "model_of_glm",
    "model_of_vertical",
    "save_model",
    "score_events",
    "scoring_of",
]
