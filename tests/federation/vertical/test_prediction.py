"""Scores of new customers: the acting channel's own, right to a band, and nothing for anybody else."""

from typing import Any

import msgspec
import numpy as np
import pytest

from dayfly.federation.accounting import EXACT, TrialBudget
from dayfly.federation.alignment import Rows
from dayfly.federation.errors import Declined, InvalidSetting, Refused, SpendRefused, TooFewParties
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid, lost_reply
from dayfly.federation.model import JointModel, model_of_vertical, scoring_of
from dayfly.federation.vertical import ScoringParty, ScoringSpec, VerticalData, score_together
from dayfly.federation.vertical.relay import ask
from dayfly.federation.vertical.sealing import Hello
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.accounting import LossEvent
from tests.federation.secagg.sessions import digest
from tests.federation.vertical.runs import (
    ALIGNMENT,
    NOW_MS,
    PURPOSE,
    RUN,
    Channels,
    manifest_of,
    names_of,
    small_world,
    spec_for,
    trained,
)

NEW = small_world(200, seed=2)
UNIVERSE = 260


def joint_model(names: tuple[str, ...] = ("app", "hotline", "wifi")) -> JointModel:
    old = small_world(800)
    world = Channels.whole({name: old.columns[name] for name in names}, "hotline", old.labels)
    return model_of_vertical(trained(world, spec_for(world, steps=2))[0], run=RUN, date="2026-11-23")


MODEL = joint_model()


def placed() -> dict[str, np.ndarray]:
    """Each channel has three of four customers; the first 20 are with the acting channel and wifi alone."""
    random = np.random.default_rng(5)
    places = random.permutation(UNIVERSE)[:200]
    found = {}
    for name in NEW.columns:
        here = random.random(200) < 0.75
        here[:20] = name != "app"
        found[name] = np.where(here, places, -1)
    return found


def scoring(
    model: JointModel = MODEL,
    *,
    positions: dict[str, np.ndarray] | None = None,
    agree: bool = False,
    **options: Any,
) -> tuple[dict[str, ScoringParty], Caller, ScoringSpec]:
    names = tuple(columns.channel for columns in model.channels)
    keys = {name: SigningIdentity(name, digest("node", name)) for name in (*names, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    where = positions or placed()
    budgets = options.pop("budgets", {})
    parties = {
        name: ScoringParty(
            keys[name],
            identities,
            VerticalData(name, names_of(name, NEW.columns[name]), NEW.columns[name]),
            Rows(UNIVERSE, where[name], manifest_of(keys[name])),
            run=RUN,
            random_bytes=lambda size, name=name: digest("root", name)[:size],  # type: ignore[misc]
            budget=budgets.get(name) or TrialBudget(),
            now_ms=lambda: NOW_MS,
            two_channels_agree=agree,
        )
        for name in names
    }
    caller = Caller(LocalGrid(parties.values(), **options), keys[SERVER], identities, run=RUN)
    spec = scoring_of(model, acting="hotline", alignment=ALIGNMENT, universe=UNIVERSE, purpose=PURPOSE)
    return parties, caller, spec


def scored(*given: Any, **options: Any) -> dict[str, ScoringParty]:
    parties, caller, spec = scoring(*given, **options)
    score_together(caller, spec, random_bytes=lambda size: digest("dealer")[:size])
    return parties


def expected(spec: ScoringSpec, positions: dict[str, np.ndarray]) -> np.ndarray:
    """In plain floats, with the acting channel's part unrounded."""
    found = np.full(200, spec.intercept)
    for name in spec.names:
        partial = spec.partial(name, NEW.columns[name])
        if name != spec.acting:
            partial = np.rint(np.clip(partial, -spec.limit, spec.limit) / spec.band) * spec.band
        found += np.where(positions[name] >= 0, partial, 0.0)
    found[positions[spec.acting] < 0] = np.nan
    return found


def test_the_acting_channel_gets_the_sum_of_banded_partial_scores_of_its_own_customers() -> None:
    parties, caller, spec = scoring()
    score_together(caller, spec, random_bytes=lambda size: digest("dealer")[:size])
    assert parties["hotline"].scores == pytest.approx(expected(spec, placed()), abs=1e-9, nan_ok=True)


def test_where_all_channels_have_the_customer_scores_are_the_model_s_to_half_a_band_each() -> None:
    everywhere = dict.fromkeys(NEW.columns, np.random.default_rng(1).permutation(UNIVERSE)[:200])
    scores = scored(positions=everywhere)["hotline"].scores
    rows = np.hstack([NEW.columns[name] for name in sorted(NEW.columns)])
    assert np.abs(scores - MODEL.linear_predictor(rows)).max() <= 2 * 0.125 / 2 + 1e-9


def test_only_the_acting_channel_has_scores() -> None:
    parties = scored()
    with pytest.raises(Refused, match=r"scores=<none> must be computed first, and are 'wifi'"):
        _ = parties["wifi"].scores


def test_of_rows_that_are_not_its_customers_the_acting_channel_computes_zero() -> None:
    """The same customers in different rows, and others in the rest: what is computed for the rest does not depend on who is there."""
    parties, caller, spec = scoring()
    score_together(caller, spec, random_bytes=lambda size: digest("dealer")[:size])
    sums = parties["hotline"].sums
    absent = np.setdiff1d(np.arange(UNIVERSE), placed()["hotline"])
    others = np.union1d(placed()["app"], placed()["wifi"])
    assert len(np.intersect1d(absent, others)) > 20
    assert not sums[absent].any()
    assert sums[placed()["hotline"][:20]].any()


def test_each_channel_that_adds_to_scores_must_allow_it() -> None:
    class Never(TrialBudget):
        def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
            assert (run, release, loss) == (RUN, "scores", EXACT)
            raise SpendRefused("wifi", "refuses release='scores': exact values are not allowed")

    with pytest.raises(Declined, match=r"party='wifi' declined 'add': .* not allowed"):
        scored(budgets={"wifi": Never()})


def test_with_two_channels_both_must_agree() -> None:
    model = joint_model(("app", "hotline"))
    with pytest.raises(Declined, match=r"must be three or more, or each score tells 'hotline' the other's"):
        scored(model)
    parties, caller, spec = scoring(model, agree=True)
    score_together(caller, spec, random_bytes=lambda size: digest("dealer")[:size])
    positions = {name: placed()[name] for name in spec.names}
    assert parties["hotline"].scores == pytest.approx(expected(spec, positions), abs=1e-9, nan_ok=True)


def test_a_lost_channel_is_named() -> None:
    with pytest.raises(TooFewParties, match="party='wifi' was lost at 'add'"):
        scored(faults={("wifi", 3): lost_reply})


def test_nothing_is_answered_out_of_order() -> None:
    parties, caller, spec = scoring()
    del parties
    with pytest.raises(Declined, match=r"message='exchange' must be 'hello'"):
        ask(caller, "exchange", {"app": b""}, Hello)
    with pytest.raises(InvalidSetting, match="weights must be"):
        score_together(caller, msgspec.structs.replace(spec, weights=()), random_bytes=bytes)
    with pytest.raises(InvalidSetting, match=r"band=0.0 must be"):
        score_together(caller, msgspec.structs.replace(spec, band=0.0), random_bytes=bytes)
