"""A table of named entries; a wrong name is answered with the near match and the choices."""

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")


class Registry(dict[str, Entry], Generic[Entry]):
    """Name → entry. `resolve` also takes aliases, any letter case and `package.module:Object`.

    The fields of an entry that is a dataclass are its parameters: `name:key=value:key=value`.
    `check` is called with a foreign object and returns what it lacks, or None if it can be used.
    own: how the user names an own entry, for messages.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        *,
        aliases: Mapping[str, str] | None = None,
        check: Callable[[Any], str | None] = lambda entry: None,
        own: str = "package.module:Object",
    ) -> None:
        super().__init__(entries)
        self.kind, self.aliases, self._check = kind, dict(aliases or {}), check
        self._own = own
        self._made: dict[str, Any] = {}

    def resolve(self, spec: str | Entry) -> Entry:
        """The entry for a name, an alias, a foreign `package.module:Object`, or an object itself.

        Raises ValueError for an unknown name, or a foreign object that cannot be loaded or used.
        """
        if not isinstance(spec, str):
            return self._usable(spec, repr(spec))
        if spec in self._made:
            return self._made[spec]
        canonical = self.canonical(spec)
        name, given = _split(canonical)
        entry: Any = self._loaded(name)
        if not given:
            return entry
        # One object for each spelling: an entry may have a memory, as anode-auto has.
        if canonical not in self._made:
            values = _values(self.kind, name, entry, given)
            self._made[canonical] = dataclasses.replace(entry, **values)
        return self._made[canonical]

    def canonical(self, spec: str) -> str:
        """The registered name for `spec`, with its parameters in alphabetical order; a foreign
        `package.module:Object` unchanged.

        Raises ValueError, with the near match and the choices, for an unknown name or parameter.
        """
        base, given = _split(spec)
        known, has_more, rest = base.partition(":")
        if has_more and known.lower() in {*self, *self.aliases}:
            forms = [known, *(f"{known}:{name}=VALUE" for name in _parameters(self.resolve(known)))]
            raise ValueError(
                f"{self.kind} {base!r}: {rest!r} is no parameter with its value: write "
                + " or ".join(forms)
            )
        name = base if has_more else self.aliases.get(base.lower(), base.lower())
        if not has_more and name not in self:
            near = difflib.get_close_matches(name, [*self, *self.aliases], n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"unknown {self.kind} {base!r}{hint}: choose from {', '.join(self)}, "
                f"or name your own as {self._own}"
            )
        values = _values(self.kind, name, self._loaded(name), given) if given else {}
        return ":".join([name, *(f"{key}={value}" for key, value in sorted(values.items()))])

    def _loaded(self, name: str) -> Entry:
        return self._usable(_load(self.kind, name), name) if ":" in name else self[name]

    def _usable(self, entry: Entry, spec: str) -> Entry:
        lack = self._check(entry)
        if lack:
            raise ValueError(f"{self.kind} {spec} cannot be used: {lack}")
        return entry


def _load(kind: str, spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and may exit
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        if isinstance(error, SystemExit):
            said = f"it exits while it is imported ({said})"
        raise ValueError(f"cannot load {kind} {spec!r}: {said}") from error


def _split(spec: str) -> tuple[str, list[str]]:
    """The name, and the parameters as they are written."""
    parts = spec.split(":")
    first = next((i for i, part in enumerate(parts) if "=" in part), len(parts))
    return ":".join(parts[:first]), parts[first:]


def _values(kind: str, name: str, entry: Any, given: list[str]) -> dict[str, Any]:
    known = _parameters(entry)
    values = {}
    for parameter in given:
        key, _, text = parameter.partition("=")
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{kind} {name!r} has no parameter {key!r}: {has}")
        if key in values:
            raise ValueError(f"{kind} {name!r} has the parameter {key!r} twice: give it once")
        try:
            values[key] = known[key](text)
        except Exception:  # a foreign type may raise anything
            raise ValueError(
                f"{kind} {name!r}: {parameter!r} is no {known[key].__name__}: write {key}=NUMBER"
            ) from None
    return values


def _parameters(entry: Any) -> dict[str, type[Any]]:
    """Name → type of a dataclass's fields that can be converted from text: those with one type
    (beside None) that is not bool."""
    if not dataclasses.is_dataclass(entry) or isinstance(entry, type):
        return {}
    hints = typing.get_type_hints(type(entry))
    found = {}
    for name in (field.name for field in dataclasses.fields(entry) if field.init):
        types = [t for t in typing.get_args(hints[name]) or (hints[name],) if t is not type(None)]
        if len(types) == 1 and isinstance(types[0], type) and types[0] is not bool:
            found[name] = types[0]
    return found
