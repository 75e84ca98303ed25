"""Parameter records as one line of text, so that a state of the sliders can be written down."""

import dataclasses

_READERS = {bool: {"True": True, "False": False}.__getitem__}


class Settings:
    """Base of a frozen parameter record: a text form such as "layer=10 query=700 group=0".

    Every field has a default and is an int, float, str (without spaces) or bool.
    """

    def to_text(self) -> str:
        """The settings as one line, from which `from_text` makes an equal record."""
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self))

    @classmethod
    def from_text(cls, text: str):
        """Read `to_text`'s line; settings left out keep their defaults.

        Raises:
            ValueError: a part is no `name=value`, the name is unknown, or the value does not fit.
        """
        types = {f.name: f.type for f in dataclasses.fields(cls)}
        settings = {}
        for part in text.split():
            name, equals, value = part.partition("=")
            if not equals or name not in types:
                raise ValueError(
                    f"{part!r} is no setting: write name=value with one of {', '.join(types)}."
                )
            try:
                settings[name] = _READERS.get(types[name], types[name])(value)
            except (KeyError, ValueError):
                raise ValueError(
                    f"{name}={value} is not of type {types[name].__name__}: write for instance "
                    f"{name}={getattr(cls(), name)}."
                ) from None
        return cls(**settings)
