"""Overrides: single config values from `--set KEY=VALUE` or from an option."""

from dataclasses import dataclass, replace
from typing import Any

from yolo9k.errors import ConfigError, quote
from yolo9k.renamed import with_new_names
from yolo9k.yaml_files import MAX_LEVELS, parse_yaml


@dataclass(frozen=True)
class Override:
    """Set the dotted config `key` to `value`; `said`: what the user wrote, shown at the start of errors."""

    key: str
    value: Any
    said: str

    @classmethod
    def of(cls, override: "str | Override") -> "Override":
        """Parse the text `KEY=VALUE` of `--set`; return an override as is. Raises `ConfigError`."""
        if isinstance(override, Override):
            return override
        key, equals, value = override.partition("=")
        key, said = key.strip(), f"--set {quote(override)[1:-1]}"
        if not equals or not key or key.count(".") >= MAX_LEVELS:
            raise ConfigError(f"{said}: must be KEY=VALUE, for example --set train.lr=0.0005")
        fail = lambda _, problem: ConfigError(f"{said}: the value must be YAML: {problem}")  # noqa: E731
        return cls(key, parse_yaml(value, said, fail, under=key.split(".")), said)._with_new_names()

    def _with_new_names(self) -> "Override":
        """Replace old names in the key and in the value; each one logs a warning."""
        nested, parts = with_new_names(self.nested(), self.said), []
        for _ in self.key.split("."):
            (part, nested), *_ = nested.items()
            parts.append(part)
        return replace(self, key=".".join(parts), value=nested)

    def nested(self) -> dict[str, Any]:
        """Return nested mappings: `train.lr` as {train: {lr: value}}."""
        values = self.value
        for part in reversed(self.key.split(".")):
            values = {part: values}
        return values

    def blamed(self, problem: str) -> str:
        """Return an error message that starts with what the user wrote; the key is not repeated."""
        return f"{self.said}: {problem.removeprefix(f'{self.key}: ')}"
