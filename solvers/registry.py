"""A table of named entries that explains itself when a name is wrong."""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from solvers.plugins import load

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Name → entry. `resolve` also takes aliases, any letter case and `package.module:Object`.

    An entry that is a dataclass has its fields for parameters: `name:key=value:key=value`.
    `check` is called with a foreign object and says what it lacks, or None when it will do.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        *,
        aliases: Mapping[str, str] | None = None,
        check: Callable[[Any], str | None] = lambda entry: None,
    ) -> None:
        self.kind = kind
        self.aliases = dict(aliases or {})
        self._entries = dict(entries)
        self._check = check
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def canonical(self, spec: str) -> str:
        """The registered name that `spec` means; a foreign `package.module:Object` as it stands.

        Parameters come in alphabetical order. Raises ValueError, naming the near match and the
        choices, for an unknown name or parameter.
        """
        base, given = _split(spec)
        if given:
            base = self.canonical(base)
            values = _converted(self.kind, base, self.resolve(base), given)
            return ":".join([base, *(f"{key}={values[key]}" for key in sorted(values))])
        known, has_more, rest = base.partition(":")
        if has_more and known.lower() in {*self._entries, *self.aliases}:
            has = _parameters(self.resolve(known))
            forms = [known, *(f"{known}:{name}=VALUE" for name in has)]
            raise ValueError(
                f"{self.kind} {spec!r}: {rest!r} is no parameter with its value: write "
                + " or ".join(forms)
            )
        if has_more:
            return base
        name = self.aliases.get(spec.lower(), spec.lower())
        if name not in self._entries:
            near = difflib.get_close_matches(name, [*self._entries, *self.aliases], n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"unknown {self.kind} {spec!r}{hint}: choose from {', '.join(self._entries)}, "
                "or name your own as package.module:Object"
            )
        return name

    def resolve(self, spec: str | Entry) -> Entry:
        """The entry for a name, an alias, a foreign `package.module:Object`, or for itself.

        Raises ValueError for an unknown name, or a foreign object that cannot be loaded or used.
        """
        if not isinstance(spec, str):
            return self._usable(spec, repr(spec))
        if spec in self._made:
            return self._made[spec]
        canonical = self.canonical(spec)
        name, given = _split(canonical)
        entry: Any = (
            self._usable(load(self.kind, name), name) if ":" in name else self._entries[name]
        )
        if not given:
            return entry
        # The same object for the same words: an entry may remember what it saw.
        if canonical not in self._made:
            values = _converted(self.kind, name, entry, given)
            self._made[canonical] = dataclasses.replace(entry, **values)
        return self._made[canonical]

    def _usable(self, entry: Entry, spec: str) -> Entry:
        lack = self._check(entry)
        if lack:
            raise ValueError(f"{self.kind} {spec} cannot be used: {lack}")
        return entry


def _split(spec: str) -> tuple[str, list[str]]:
    """What stands before the parameters, and the parameters as they are written."""
    parts = spec.split(":")
    first = next((i for i, part in enumerate(parts) if "=" in part), len(parts))
    return ":".join(parts[:first]), parts[first:]


def _converted(kind: str, name: str, entry: Any, given: list[str]) -> dict[str, Any]:
    known = _parameters(entry)
    values = {}
    for parameter in given:
        key, _, text = parameter.partition("=")
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"{kind} {name!r} has no parameter {key!r}: {has}")
        if key in values:
            raise ValueError(f"{kind} {name!r} has the parameter {key!r} twice: give it once")
        type_ = known[key]
        try:
            values[key] = type_(text)
        except Exception:  # a number that is none, or what somebody's own type says to it
            raise ValueError(
                f"{kind} {name!r}: {parameter!r} is no {type_.__name__}: write {key}=NUMBER"
            ) from None
    return values


def _parameters(entry: Any) -> dict[str, type[Any]]:
    """Name → type of what can stand after the colon: a dataclass's fields, but for its own and
    those that no word can be made into."""
    if not dataclasses.is_dataclass(entry) or isinstance(entry, type):
        return {}
    hints = typing.get_type_hints(type(entry))
    own = {field.name: hints[field.name] for field in dataclasses.fields(entry) if field.init}
    types = {
        name: [t for t in typing.get_args(hint) or (hint,) if t is not type(None)]
        for name, hint in own.items()
    }
    return {
        name: found[0]
        for name, found in types.items()
        if len(found) == 1 and isinstance(found[0], type)
    }
