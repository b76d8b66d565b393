"""Entries of a spec: a tagged union over what is installed, with errors at their exact place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from attrs import frozen
from pydantic import AfterValidator, Field, GetJsonSchemaHandler, ValidationError, create_model
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from pqd_core.host.errors import DataError, Problem, SpecError
from pqd_core.host.log import get_logger
from pqd_core.host.plugins import Host, default_host
from pqd_core.host.problems import unknown_keys_named
from pqd_core.host.registry import Owned, UnknownName
from pqd_core.records import ComponentDef, Settings

MAX_EPOCHS = 10**6
"""No request is this long; larger numbers are typing errors that arithmetic should not meet."""
Epochs = Annotated[
    int | None, Field(ge=0, lt=MAX_EPOCHS, description="Epochs of this stage; its share of the budget if not given.")
]


def _refuse_epochs(epochs: int | None) -> int | None:
    if epochs:
        raise ValueError("this stage does not train; leave epochs out")
    return epochs


NoEpochs = Annotated[
    int | None, AfterValidator(_refuse_epochs), Field(ge=0, description="None: this stage does not train.")
]
FOR_KEY = {"for": "key"}
"""Serialization context of content keys: files stand for what is in them, not for where they lie."""


@frozen
class Entry:
    """A component that a spec asks for, with its settings."""

    plugin: str
    record: Any
    settings: Any
    epochs: int | None = None

    @property
    def name(self) -> str:
        """The component's short name."""
        return str(self.record.name)

    def flat(self, *, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The entry as a spec writes it, with all defaults."""
        settings = self.settings.model_dump(mode="json", context=dict(context or {}))
        epochs = {} if self.epochs is None else {"epochs": self.epochs}
        return {"use": f"{self.plugin}:{self.name}", **epochs, **settings}

    def identity(self) -> dict[str, Any]:
        """What a content key has to know of the entry."""
        return {
            "use": f"{self.plugin}:{self.name}",
            "version": self.record.version,
            "settings": self.settings.model_dump(mode="json", context=FOR_KEY),
            "fingerprint": self._fingerprint(),
        }

    def _fingerprint(self) -> str | None:
        fingerprint = getattr(self.record, "fingerprint", None)
        try:
            return str(fingerprint(self.settings)) if fingerprint else None
        except OSError as error:
            what = f"{error.filename or 'a file'} cannot be read: {error.strerror or error}"
            raise DataError(Problem(self.name, what, "correct the path, or delete what leads nowhere")) from error


@frozen
class EntryOf:
    """Marks a pydantic field as an entry of one kind; put it in `Annotated[Entry, EntryOf("stage")]`."""

    noun: str

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda entry, info: entry.flat(context=info.context), info_arg=True
            ),
            metadata={"pydantic_js_functions": [self._json_schema]},
        )

    def _json_schema(self, _schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        registry = default_host().registry(self.noun)
        full = [handler(entry_model(self.noun, owned).__pydantic_core_schema__) for owned in registry]
        return {"anyOf": [{"type": "string", "enum": list(registry.names())}, *full]}

    def _validate(self, value: Any, info: core_schema.ValidationInfo) -> Entry:
        if isinstance(value, Entry):
            return value
        host: Host = (info.context or {}).get("host") or default_host()
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("use"), str):
            raise PydanticCustomError("entry", f"expected a {self.noun}'s name, or a mapping with the key 'use'")
        try:
            owned = host.registry(self.noun).find(value["use"])
        except UnknownName as error:
            raise PydanticCustomError("unknown_name", _literal(str(error))) from None
        return self._parse(owned, value, info)

    def _parse(self, owned: Owned[ComponentDef], value: Mapping[str, Any], info: core_schema.ValidationInfo) -> Entry:
        name, model = owned.record.name, entry_model(self.noun, owned)
        try:
            flat = model.model_validate({**value, "use": name}, context=info.context)
        except ValidationError as error:
            raise _relocated(error, model, name) from None
        settings = {key: getattr(flat, key) for key in owned.record.settings.model_fields}
        return Entry(
            owned.plugin,
            owned.record,
            owned.record.settings.model_construct(**settings),
            epochs=getattr(flat, "epochs", None) if self.noun == "stage" else None,
        )


@cache
def _entry_model(noun: str, name: str, settings: type[Settings], trains: bool) -> type[Settings]:
    fields: dict[str, Any] = {"use": (str, Field(json_schema_extra={"const": name}, description=f"The {noun}'s name."))}
    if noun == "stage":
        fields["epochs"] = (Epochs if trains else NoEpochs, None)
    return create_model(f"{name} ({noun})", __base__=settings, **fields)


def entry_model(noun: str, owned: Owned[ComponentDef]) -> type[Settings]:
    """The settings of a component together with the keys that the spec itself puts beside them."""
    return _entry_model(noun, owned.record.name, owned.record.settings, getattr(owned.record, "trains", False))


def _relocated(error: ValidationError, model: type[Settings], name: str) -> ValidationError:
    """The same problems, below the component's name: `stages.1.int8-qat.bits`."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(problem["type"], _literal(problem["msg"])),
            loc=(name, *problem["loc"]),
            input=problem["input"],
        )
        for problem in unknown_keys_named(error, model)
    ]
    return ValidationError.from_exception_data(name, details)


def _literal(text: str) -> Any:
    """Text where pydantic's types want a template; without a context it is shown as it is."""
    return text


StageEntry = Annotated[Entry, EntryOf("stage")]
BackboneEntry = Annotated[Entry, EntryOf("backbone")]
DatasetEntry = Annotated[Entry, EntryOf("dataset")]
RuntimeEntry = Annotated[Entry, EntryOf("runtime")]
MeasurerEntry = Annotated[Entry, EntryOf("measurer")]
TaskEntry = Annotated[Entry, EntryOf("task")]


def entries_or_all(entries: Sequence[Entry] | None, host: Host, noun: str) -> list[Entry]:
    """The entries of the spec, or everything installed that has defaults.

    Raises:
        SpecError: two plugins bring one name; neither is guessed.
    """
    if entries is not None:
        return list(entries)
    registry = host.registry(noun)
    if clashes := [name for name in registry.names() if ":" in name]:
        raise SpecError(Problem(f"{noun}s", f"{' and '.join(clashes)} have one name", "name in the spec what to use"))
    return [entry for owned in registry if (entry := _default_entry(owned, noun))]


def _default_entry(owned: Owned[Any], noun: str) -> Entry | None:
    try:
        return Entry(owned.plugin, owned.record, owned.record.settings())
    except ValidationError:
        get_logger("pqd.run").warning(f"{noun} {owned.full_name} is left out: it has settings without a default")
        return None
