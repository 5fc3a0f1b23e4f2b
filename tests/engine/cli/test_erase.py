"""`dayfly erase` and `dayfly certificate verify`: one person gone from a stopped store, with a proof that others can check."""

from pathlib import Path

import orjson
import pytest

from .support import dayfly
from .test_store import Site, message


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def erased(site: Site, out: Path, user: str = "u-1") -> None:
    result = dayfly("erase", site.store, "--user", user, "--keys", site.keys, "--certificate", out)
    assert result.exit_code == 0, result.output
    assert "data keys destroyed" in result.stdout


def verify(site: Site, file: Path, folder: Path, origin: str = "dayfly.example/shop") -> int:
    dayfly("keys", "public", site.keys, "--out", folder / "public")
    key = folder / "public" / "log-key.pem"
    return dayfly("certificate", "verify", file, "--log-key", key, "--origin", origin).exit_code


def test_an_erasure_ends_older_backups_and_its_certificate_verifies(site: Site, tmp_path: Path) -> None:
    assert dayfly("backup", site.store, "--to", tmp_path / "b", "--keys", site.keys).exit_code == 0
    erased(site, tmp_path / "erased.jsonl")
    assert verify(site, tmp_path / "erased.jsonl", tmp_path) == 0
    result = dayfly(
        "restore",
        tmp_path / "b",
        "--to",
        tmp_path / "new",
        "--slots",
        site.store / "keys.slots",
        "--keys",
        site.keys,
    )
    assert result.exit_code == 2
    assert "must be younger than the last erasure" in result.output
    with site.open() as engine:  # others go on, and the person may come back as somebody new
        assert engine.submit([message("m-9")], "app").payloads == 1


def test_a_certificate_names_nobody(site: Site, tmp_path: Path) -> None:
    erased(site, tmp_path / "erased.jsonl")
    text = (tmp_path / "erased.jsonl").read_text()
    person = site.provider().pseudonyms().current("user", "u-1").value
    assert "u-1" not in text
    assert person.hex() not in text


def test_there_is_a_certificate_for_every_living_name_of_the_person(site: Site, tmp_path: Path) -> None:
    assert dayfly("keys", "rotate", site.keys, "pseudonym").exit_code == 0
    erased(site, tmp_path / "erased.jsonl")
    lines = [orjson.loads(line) for line in (tmp_path / "erased.jsonl").read_bytes().splitlines()]
    assert len({line["who"] for line in lines}) == 2
    assert verify(site, tmp_path / "erased.jsonl", tmp_path) == 0


@pytest.mark.parametrize("field", ["completed_ms", "position"])
def test_an_altered_certificate_does_not_hold(site: Site, tmp_path: Path, field: str) -> None:
    erased(site, tmp_path / "erased.jsonl")
    certificate = orjson.loads((tmp_path / "erased.jsonl").read_bytes())
    certificate[field] += 1
    (tmp_path / "altered.jsonl").write_bytes(orjson.dumps(certificate))
    assert verify(site, tmp_path / "altered.jsonl", tmp_path) == 1
    assert verify(site, tmp_path / "erased.jsonl", tmp_path, origin="dayfly.example/other") == 1


@pytest.mark.parametrize("content", ["", "{}", "no JSON"])
def test_a_file_without_certificates_is_status_2(site: Site, tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    assert verify(site, tmp_path / "file", tmp_path) == 2


def test_nobody_is_erased_where_the_certificate_could_not_be_kept(site: Site, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    result = dayfly(
        "erase", site.store, "--user", "u-1", "--keys", site.keys, "--certificate", tmp_path / "there"
    )
    assert result.exit_code == 2
    assert "must not exist" in result.output
    assert (tmp_path / "there").read_text() == "mine"


def test_a_store_in_use_is_left_alone(site: Site, tmp_path: Path) -> None:
    with site.open():
        result = dayfly(
            "erase", site.store, "--user", "u-1", "--keys", site.keys, "--certificate", tmp_path / "c"
        )
    assert result.exit_code == 2
    assert "must have one writer" in result.output
    assert not (tmp_path / "c").exists()
