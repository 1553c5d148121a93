"""What ``${name:...}`` means in a config: those of upstream threestudio's resolvers that configs here use."""

from omegaconf import OmegaConf

from threestudio.utils.schedule import largest_value


def C_max(value: object) -> float:
    """The largest value a number or schedule takes."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    return largest_value(value)


RESOLVERS = {
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "rmspace": lambda text, filler: str(text).replace(" ", filler),
}


def register_resolvers() -> None:
    """Make the resolvers known to omegaconf; doing so again changes nothing."""
    for name, function in RESOLVERS.items():
        OmegaConf.register_resolver(name, function, replace=True)
