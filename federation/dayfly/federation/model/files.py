"""A model in a folder: `model.json` for people and `arrays.npz` for machines, each bound to the other.

Claim: what is loaded is what was saved, number for number; anything else is refused, and nothing in a file is executed.
Argument: the description holds the SHA-256 of the arrays' file, and the digest of the whole model, which is computed again from what was read.
Arrays are read without pickle. A file that was changed on purpose, digests and all, is not found out: keep it where you keep code.
"""

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from dayfly.federation.errors import DamagedModel, InvalidSetting
from dayfly.federation.model.card import ModelCard
from dayfly.federation.model.joint import JointModel
from dayfly.federation.vertical.spec import ChannelColumns

__all__ = ["load_model", "save_model"]

DESCRIPTION: Final = "model.json"
ARRAYS: Final = "arrays.npz"
_FORMAT: Final = "dayfly joint model 1"
_MOST_BYTES: Final = 1 << 26
_NAMES: Final = ("coefficients", "standard_errors")


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`model.json`."""

    format: str
    family: Literal["linear", "logistic", "poisson"]
    label: str
    features: tuple[str, ...]
    intercept: float
    channels: tuple[ChannelColumns, ...]
    card: ModelCard
    arrays_sha256: str
    digest: str


def save_model(model: JointModel, folder: Path) -> None:
    """Write a model.

    Args:
        model: The model.
        folder: Made if it is missing; must hold no other model.

    Raises:
        InvalidSetting: there is a model already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / DESCRIPTION).exists():
        raise InvalidSetting(f"folder={folder.name!r} must hold no model yet; choose another one")
    buffer = io.BytesIO()
    np.savez(buffer, coefficients=model.coefficients, standard_errors=model.standard_errors)
    arrays = buffer.getvalue()
    description = _Description(
        _FORMAT,
        model.family,
        model.label,
        model.features,
        model.intercept,
        model.channels,
        model.card,
        hashlib.sha256(arrays).hexdigest(),
        model.digest.hex(),
    )
    _write(folder / ARRAYS, arrays)
    _write(folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(description), indent=2))


def load_model(folder: Path) -> JointModel:
    """Read a model.

    Args:
        folder: As saved.

    Raises:
        DamagedModel: a file is missing, cut, changed, of another model, or of another version.
    """
    try:
        description = msgspec.json.decode(_read(folder / DESCRIPTION), type=_Description)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedModel(
            f"{DESCRIPTION} must describe a model ({error}); put it back from a copy"
        ) from None
    if description.format != _FORMAT:
        raise DamagedModel(
            f"format={description.format!r} must be {_FORMAT!r}; load it with the version that saved it"
        )
    data = _read(folder / ARRAYS)
    if hashlib.sha256(data).hexdigest() != description.arrays_sha256:
        raise DamagedModel(f"{ARRAYS} must be the file that {DESCRIPTION} names; put both back from one copy")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            coefficients, errors = (np.asarray(stored[name], np.float64) for name in _NAMES)
        model = JointModel(
            description.family,
            description.label,
            description.features,
            description.intercept,
            coefficients,
            errors,
            description.channels,
            description.card,
        )
    except (InvalidSetting, KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DamagedModel(
            f"{ARRAYS} must hold the model's arrays ({error}); put it back from a copy"
        ) from error
    if model.digest.hex() != description.digest:
        raise DamagedModel(f"{DESCRIPTION} must not be changed after it was saved; put it back from a copy")
    return model


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DamagedModel(f"{path.name} must be below {_MOST_BYTES} bytes; it is no model")
        return path.read_bytes()
    except OSError as error:
        raise DamagedModel(
            f"{path.name} must be a file that can be read ({error.strerror}); pass a model's folder"
        ) from error
