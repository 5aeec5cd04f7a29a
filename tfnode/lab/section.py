"""`Section`: settings that belong together, typed, with the rules for each of them."""

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from tfnode.lab.command_line import suggestion

_CHECKED = pydantic.ConfigDict(
    strict=True,
    extra="forbid",
    validate_assignment=True,
    allow_inf_nan=False,
    protected_namespaces=(),
)


class Section(pydantic.BaseModel):
    """Settings that belong together.

    Each field is a setting, or a section within this one. The type of a field holds its choices
    or its range, and its description the meaning. Flags, `--help`, error messages, `config.json`
    and the search space of `tfnode.tune` are made from these fields.
    """

    model_config = _CHECKED

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).model_fields and name in (rules := type(self).rules()):
            rules[name].check(value)
        super().__setattr__(name, value)

    @classmethod
    def rules(cls, prefix: str = "") -> dict[str, "Rule"]:
        """Return the rule for each setting, by its name with dots."""
        found: dict[str, Rule] = {}
        for name, field in cls.model_fields.items():
            inner = _section_of(field)
            if inner is None:
                found[f"{prefix}{name}"] = Rule(f"{prefix}{name}", field)
            else:
                found |= inner.rules(f"{prefix}{name}.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a nested dict, without the sections that are `None`."""
        result: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                result[name] = value.to_dict()
            elif value is not None or _section_of(field) is None:
                result[name] = value
        return result


class Rule(NamedTuple):
    """The rule for one setting.

    Attributes:
        name: Its name, with dots.
        field: pydantic's description of it.
    """

    name: str
    field: FieldInfo

    @property
    def meaning(self) -> str:
        """The setting in words."""
        return self.field.description or ""

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that the setting may have; empty for numbers and text."""
        kinds = list(_kinds(self.field.annotation))
        if bool in kinds:
            return (True, False)
        return tuple(v for k in kinds if get_origin(k) is Literal for v in get_args(k))

    @property
    def range(self) -> tuple[Any, Any] | None:
        """The lowest and the highest value of a number; `None` for others."""
        limits = [*self.field.metadata, *_metadata(self.field.annotation)]
        low = next((m.ge for m in limits if hasattr(m, "ge")), None)
        high = next((m.le for m in limits if hasattr(m, "le")), None)
        return None if low is None else (low, high)

    @property
    def is_optional(self) -> bool:
        """Whether the setting may be `None` where it has choices or a range."""
        return types.NoneType in _kinds(self.field.annotation) or None in self.choices

    @property
    def expected(self) -> str:
        """The values that the setting may have, in words."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.range:
            whole = int in _kinds(self.field.annotation)
            return (
                f"{'an integer' if whole else 'a number'} from {self.range[0]} to {self.range[1]}"
            )
        return "made of letters, digits, '_', '-' and '.', since it names a folder"

    def check(self, value: Any) -> None:
        """Raise an error for a value that the setting cannot have, whatever the others are.

        Raises:
            ValueError: Naming the setting, the values that it may have, and the one received.
        """
        try:
            self._adapter(strict=True).validate_python(value)
        except pydantic.ValidationError as error:
            raise self._error(value) from error

    def parse(self, text: str) -> Any:
        """Return the value that text on the command line stands for.

        Raises:
            ValueError: As `check` does.
        """
        if text == "None" and self.is_optional:
            return None
        try:
            return self._adapter(strict=False).validate_strings(text)
        except pydantic.ValidationError as error:
            raise self._error(text) from error

    def _adapter(self, strict: bool) -> pydantic.TypeAdapter[Any]:
        config = pydantic.ConfigDict(strict=strict, allow_inf_nan=False)
        kind: Any = self.field.annotation
        for limit in self.field.metadata:
            kind = Annotated[kind, limit]
        return pydantic.TypeAdapter(kind, config=config)

    def _error(self, value: Any) -> ValueError:
        hint = suggestion(str(value), [c for c in self.choices if isinstance(c, str)])
        return ValueError(
            f"{self.name} must be {self.expected}. Received: {self.name}={value!r:.200}"
            + (f".{hint}" if hint else "")
        )


def plain(value: Any) -> Any:
    """Return a section, or a `ml_collections.ConfigDict`, alone or in a dict, as a dict."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return value


def _section_of(field: FieldInfo) -> type[Section] | None:
    kinds = (k for k in _kinds(field.annotation) if inspect.isclass(k) and issubclass(k, Section))
    return next(kinds, None)


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types in a union, without their annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield the limits in the annotations of the types in a union."""
    for part in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        yield from part.metadata if isinstance(part, FieldInfo) else (part,)
    for part in get_args(annotation):
        yield from _metadata(part)
