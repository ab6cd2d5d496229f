"""Single values laid over a config: `--set KEY=VALUE`, and the options that are short for a key."""

from dataclasses import dataclass, replace
from typing import Any

import yaml

from yolo9k.errors import ConfigError
from yolo9k.renamed import with_new_names


@dataclass(frozen=True)
class Override:
    """The `key` of a config (with dots) gets `value`; `said` is what a person wrote, which errors begin with."""

    key: str
    value: Any
    said: str

    @classmethod
    def of(cls, override: "str | Override") -> "Override":
        """One that is made, or the text `KEY=VALUE` of `--set`. Raises `ConfigError` where it is none."""
        if isinstance(override, Override):
            return override
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: write KEY=VALUE, e.g. --set train.lr=0.0005")
        try:
            made = cls(key.strip(), yaml.safe_load(value), f"--set {override}")
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {override}: the value is not YAML") from error
        return made._with_new_names()

    def _with_new_names(self) -> "Override":
        """With the new name of its key, and those in its value; says so for each old one."""
        nested, parts = with_new_names(self.nested(), self.said), []
        for _ in self.key.split("."):
            (part, nested), *_ = nested.items()
            parts.append(part)
        return replace(self, key=".".join(parts), value=nested)

    def nested(self) -> dict[str, Any]:
        """As a mapping of sections: `train.lr` as {train: {lr: value}}."""
        values = self.value
        for part in reversed(self.key.split(".")):
            values = {part: values}
        return values

    def blamed(self, problem: str) -> str:
        """An error text: what was written, then the `problem`, whose key is left out where it is the one set."""
        return f"{self.said}: {problem.removeprefix(f'{self.key}: ')}"
