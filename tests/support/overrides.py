"""What Hydra makes of a word of a command, without the rest of a configuration."""

from typing import Any

from omegaconf import OmegaConf

from hypermap.config.overrides import parse_override


def value_of(word: str) -> Any:
    """The value that ``key=value`` gives, as it stands in the configuration that is composed with it."""
    return OmegaConf.to_container(OmegaConf.create([parse_override(word).value()]), resolve=True)[0]
