"""A table of named entries that explains itself when a name is wrong."""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Name → entry. `resolve` also takes aliases, any letter case and `package.module:Object`.

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

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def canonical(self, spec: str) -> str:
        """The registered name that `spec` means; a foreign `package.module:Object` as it stands.

        Raises ValueError, naming the near match and the choices, for an unknown name.
        """
        if ":" in spec:
            return spec
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
        name = self.canonical(spec)
        return self._usable(_load(self.kind, name), name) if ":" in name else self._entries[name]

    def _usable(self, entry: Entry, spec: str) -> Entry:
        lack = self._check(entry)
        if lack:
            raise ValueError(f"{self.kind} {spec} cannot be used: {lack}")
        return entry


def _load(kind: str, spec: str) -> Any:
    module_name, _, attribute = spec.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot load {kind} {spec!r}: {error}") from error
