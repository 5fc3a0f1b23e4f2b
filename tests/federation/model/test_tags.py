"""A tag that depends on a joint model: it comes with the score, and goes with its age."""

import msgspec
import numpy as np
import pytest

from dayfly.engine.policy.load import policy_from_documents
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.model import SCORED, catalog_entry, score_events
from tests.engine.runtime.world import DAY_MS, T0, World, documents, wrapping_kernels
from tests.federation.model.test_models import MODEL, ROWS

TAG = {
    "tag": "likely-to-buy",
    "purpose": "service.recommendation",
    "topic": "furniture.sofa",
    "when": f'last("{SCORED}", properties.score, where: properties.model == "buying", within: 7d) > 0.5',
}


def world() -> World:
    read = documents()
    for document in read:
        if document["kind"] == "catalog":
            document["events"] = document["events"] | catalog_entry()
        if document["kind"] == "tags":
            document["tags"] = [*document["tags"], TAG]
    return World(policy_from_documents(read, version=1))


def test_a_tag_rises_on_a_score_and_falls_when_it_is_old() -> None:
    scores = MODEL.score(ROWS)
    high, low = int(scores.argmax()), int(scores.argmin())
    assert scores[low] < 0.5 < scores[high]
    with wrapping_kernels():
        shop = world()
        for user in ("u-high", "u-low", "u-none"):
            shop.allow(user, T0)
        events = score_events(
            MODEL,
            "buying",
            ["u-high", "u-low", "u-none"],
            np.array([scores[high], scores[low], np.nan]),
            at_ms=T0 + 1,
        )
        assert len(events) == 2
        outcome = shop.engine.segment(events, "app", T0 + 1)
        changes = [change for change in outcome.decisions.tags if change.tag == "likely-to-buy"]
        assert [(change.subject, change.change) for change in changes] == [(shop.person("u-high"), "enter")]
        again = shop.engine.segment(events, "app", T0 + 2)
        assert not again.decisions.tags
        later = shop.engine.tick(T0 + 1 + 7 * DAY_MS)
        left = [change for change in later.decisions.tags if change.tag == "likely-to-buy"]
        assert [(change.subject, change.change) for change in left] == [(shop.person("u-high"), "leave")]


def test_a_score_without_consent_raises_no_tag() -> None:
    with wrapping_kernels():
        shop = world()
        outcome = shop.engine.segment(
            score_events(MODEL, "buying", ["u-1"], np.array([0.9]), at_ms=T0 + 1), "app", T0 + 1
        )
        assert not [change for change in outcome.decisions.tags if change.tag == "likely-to-buy"]


def test_events_say_which_model_and_nothing_of_the_features() -> None:
    event = msgspec.json.decode(score_events(MODEL, "buying", ["u-1"], np.array([0.75]), at_ms=T0)[0])
    assert event["properties"] == {"model": "buying", "model_digest": MODEL.digest.hex(), "score": 0.75}


def test_one_score_per_user_is_needed() -> None:
    with pytest.raises(InvalidSetting, match=r"scores of shape \(1,\) must be \(2,\)"):
        score_events(MODEL, "buying", ["a", "b"], np.array([0.5]), at_ms=T0)
