"""What callers do wrong is told to them alone: the engine goes on, and nothing of it is half done."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.delivery.items import FragmentEnded
from dayfly.engine.errors import CatalogError, ShardError
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import shard
from dayfly.privacy.errors import InvalidArgument
from tests.engine.runtime.world import T0, consent_record, furniture

from .shop import Shop, everything, ready


def still_works(shop: Shop) -> None:
    position = shop.act("u-9", "Login").position
    assert shop.act("u-9", "Login").position > position


def test_an_undeclared_channel_is_refused_to_its_caller_and_the_engine_goes_on(shop: Shop) -> None:
    shop.open()
    with pytest.raises(CatalogError, match="channel"):
        shop.engine.submit([shop.message("u-1", "Login")], "carrier-pigeon")
    still_works(shop)


def test_a_neighbour_of_a_refused_submission_is_taken_in(shop: Shop) -> None:
    shop.open()
    refused = shop.engine.submit_later([shop.message("u-1", "Login")], "carrier-pigeon")
    taken = shop.engine.submit_later([shop.message("u-1", "Login")], "app")
    assert isinstance(refused.exception(), CatalogError)
    assert taken.result().payloads == 1


def test_payloads_that_are_not_bytes_are_refused_before_they_are_queued(shop: Shop) -> None:
    shop.open()
    wrong: list[Any] = [["text"], [None], b"one payload", [1, 2]]
    for payloads in wrong:
        with pytest.raises(InvalidArgument, match=r"payloads=.* must be a sequence of bytes"):
            shop.engine.submit(payloads, "app")
    still_works(shop)


@pytest.mark.parametrize("call", ["consent", "withdraw", "merge", "merge other", "erase"])
def test_a_subject_that_is_no_pseudonym_is_refused_and_nothing_changes(shop: Shop, call: str) -> None:
    engine, person = shop.open(), shop.person("u-1")
    calls: dict[str, Callable[[Any], object]] = {
        "consent": lambda subject: engine.consent(subject, consent_record(person, T0)),
        "withdraw": engine.withdraw,
        "merge": lambda subject: engine.merge(subject, person),
        "merge other": lambda subject: engine.merge(person, subject),
        "erase": engine.erase,
    }
    for subject in ("u-1", b"short", b"", None, 7):
        with pytest.raises(InvalidArgument, match="must be a pseudonym of 16 bytes"):
            calls[call](subject)
    still_works(shop)


def test_a_record_or_policy_of_another_type_is_refused(shop: Shop) -> None:
    shop.open()
    wrong: Any = {"purposes": ["service"]}
    with pytest.raises(InvalidArgument, match=r"record=.* must be a ConsentRecord"):
        shop.engine.consent(shop.person("u-1"), wrong)
    with pytest.raises(InvalidArgument, match=r"policy=.* must be a Policy"):
        shop.engine.publish(wrong)
    with pytest.raises(InvalidArgument, match=r"purpose=.* must be text"):
        shop.engine.withdraw(shop.person("u-1"), purpose=wrong)
    with pytest.raises(InvalidArgument, match=r"topic=.* must be text"):
        shop.engine.withdraw(shop.person("u-1"), topic=wrong)
    still_works(shop)


def test_a_policy_that_does_not_compile_is_refused_and_deaths_of_that_instant_are_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_policy: Policy) -> None:
        raise ShardError("policy must compile")

    shop = Shop(tmp_path, tick_ms=1_000)
    engine = shop.open()
    shop.allow("u-1")
    shop.compare_sofas("u-1")
    (fragment,) = ready(engine)
    shop.clock.now_ms = fragment.expires_at_ms - 2
    shop.act("u-1", "Login")  # the tick of this second is done
    shop.clock.now_ms = fragment.expires_at_ms
    monkeypatch.setattr(shard, "compile_policy", refuse)
    with pytest.raises(ShardError, match="must compile"):
        engine.publish(furniture())
    monkeypatch.undo()
    still_works(shop)
    ended = [item for item in everything(engine) if isinstance(item, FragmentEnded)]
    assert [(item.jti, item.reason) for item in ended] == [(fragment.jti, "expired")]
    engine.close()


def test_a_policy_whose_documents_do_not_say_what_it_does_is_refused(shop: Shop) -> None:
    engine = shop.open()
    for wrong in (replace(furniture(), tags=()), replace(furniture(), source=b"")):
        with pytest.raises(InvalidArgument, match="must be as it was loaded from its documents"):
            engine.publish(wrong)
        with pytest.raises(InvalidArgument, match="must be as it was loaded from its documents"):
            shop.open(shop.folder.with_name("new"), policy=wrong)
    shop.engine = engine
    still_works(shop)
