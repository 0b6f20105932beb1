"""Reads the keys of one JSON object and checks their types, so that every complaint names the file and the key.

It knows nothing of what the keys mean. A key whose value is null counts as missing, as in Hugging Face configs.
"""

import json
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path

from understudy.errors import InputError

LARGEST_WHOLE = 2**31 - 1
"""No dimension of a model comes near it, and no sum over layers becomes slow below it."""


class Fields:
    """The values of one JSON object, with `origin` saying where they came from.

    Methods that take several keys read the first that is present: configs of different ages name things
    differently. Every method raises InputError for a missing key without a default and for a wrong type or range.
    """

    def __init__(self, values: Mapping[str, object], origin: str) -> None:
        self._values = values
        self.origin = origin

    def has(self, key: str) -> bool:
        """Return whether the key is present and not null."""
        return self._values.get(key) is not None

    def present(self, *keys: str) -> str | None:
        """Return the first of the keys that is present and not null, None without any."""
        return next((key for key in keys if self.has(key)), None)

    def part(self, key: str) -> "Fields":
        """Return the fields of the object under a key."""
        return Fields(self._object(key), f"{self.origin}, {key}")

    def parts(self) -> list["Fields"]:
        """Return the fields of every object among the values."""
        return [self.part(key) for key, value in self._values.items() if isinstance(value, dict)]

    def over(self, key: str) -> "Fields":
        """Return these fields with those of the object under `key` laid over them."""
        return Fields({**self._values, **self._object(key)}, f"{self.origin}, {key}")

    def with_defaults(self, defaults: Mapping[str, object]) -> "Fields":
        """Return these fields with others in place of those that are missing."""
        given = {key: value for key, value in self._values.items() if value is not None}
        return Fields({**defaults, **given}, self.origin)

    def whole(self, *keys: str, default: int | None = None, least: int = 1, most: int = LARGEST_WHOLE) -> int:
        """Return a whole number between `least` and `most`."""
        key = self.present(*keys)
        if key is None:
            if default is not None:
                return default
            raise self._missing(keys[0])
        return self._checked_whole(key, self._values[key], least, most)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.complaint(key, "must be true or false", value)
        return value

    def text(self, *keys: str, default: str | None = None) -> str:
        """Return a string that is not empty."""
        key = self.present(*keys)
        if key is None:
            if default is not None:
                return default
            raise self._missing(keys[0])
        value = self._values[key]
        if not isinstance(value, str) or not value:
            raise self.complaint(key, "must be a string that is not empty", value)
        return value

    def number(self, key: str) -> float:
        """Return a finite number above 0."""
        value = self._require(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value <= sys.float_info.max
        ):
            raise self.complaint(key, "must be a number above 0", value)
        return float(value)

    def texts(self, key: str) -> list[str]:
        """Return a list of strings; a missing one is empty."""
        value = self._values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.complaint(key, "must be a list of strings", value)
        return value

    def wholes(self, key: str) -> list[int]:
        """Return a list of whole numbers from 0; a missing one is empty."""
        value = self._values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.complaint(key, "must be a list of whole numbers", value)
        return [self._checked_whole(key, item, 0, LARGEST_WHOLE) for item in value]

    def complaint(self, key: str, accepted: str, value: object) -> InputError:
        """Return the error for a value that is not accepted."""
        return InputError(f"{self.origin}: {key} {accepted}, got {reprlib.repr(value)}")

    def _require(self, key: str) -> object:
        if not self.has(key):
            raise self._missing(key)
        return self._values[key]

    def _object(self, key: str) -> Mapping[str, object]:
        value = self._require(key)
        if not isinstance(value, dict):
            raise self.complaint(key, "must be an object", value)
        return value

    def _missing(self, key: str) -> InputError:
        return InputError(f"{self.origin}: {key} is missing")

    def _checked_whole(self, key: str, value: object, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.complaint(key, f"must be a whole number from {least} to {most}", value)
        return value


def read_file(path: Path) -> Fields:
    """Return the fields of a JSON file. Raises InputError if it cannot be read or holds no JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object, got a {type(values).__name__}")
    return Fields(values, origin=str(path))
