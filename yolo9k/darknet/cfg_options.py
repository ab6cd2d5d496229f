"""The options of Darknet's cfg files: their types by section, and which of them change what a network computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_INTEGER = 1 << 31  # Darknet parses a C int
MAX_FLOAT = 3e38  # and a C float


def _parse_float(text: str) -> float:
    value = float(text)
    if "_" in text or not text.isascii() or not abs(value) <= MAX_FLOAT:  # also refuses NaN
        raise ValueError(text)
    return value


def _parse_integer(text: str) -> int:
    value = int(text)
    if "_" in text or not text.isascii() or abs(value) > MAX_INTEGER:
        raise ValueError(text)
    return value


def _parse_boolean(text: str) -> bool:
    return bool(_parse_integer(text))


def _parse_integers(text: str) -> tuple[int, ...]:
    return tuple(map(_parse_integer, text.rstrip(",").split(",")))


def _parse_floats(text: str) -> tuple[float, ...]:
    return tuple(map(_parse_float, text.rstrip(",").split(",")))


@dataclass(frozen=True)
class OptionType:
    """The type of an option: a parser of its text, and the `expected` format for error messages."""

    parse: Callable[[str], Any]
    expected: str


INTEGER = OptionType(_parse_integer, "an integer")
FLOAT = OptionType(_parse_float, "a number")
BOOLEAN = OptionType(_parse_boolean, "0 or 1")
STRING = OptionType(str, "a string")
INTEGER_LIST = OptionType(_parse_integers, "integers separated by commas")
FLOAT_LIST = OptionType(_parse_floats, "numbers separated by commas")

# All options that Darknet parses in each section, including those that it never uses, and options of AlexeyAB's fork
# that are followed: `letter_box`, `groups` and `group_id` of a route, the section `reorg3d`.
OPTIONS: Mapping[str, Mapping[str, OptionType]] = {
    "net": {
        **dict.fromkeys(
            ("width", "height", "channels", "inputs", "batch", "subdivisions", "time_steps", "notruth", "burn_in",
             "max_batches", "step", "min_crop", "max_crop", "center", "adam", "random", "flip", "letter_box"),
            INTEGER,
        ),
        **dict.fromkeys(
            ("learning_rate", "momentum", "decay", "power", "scale", "gamma", "angle", "aspect", "saturation",
             "exposure", "hue", "max_ratio", "min_ratio", "clip", "B1", "B2", "eps"),
            FLOAT,
        ),
        "policy": STRING,
        "steps": INTEGER_LIST,
        "scales": FLOAT_LIST,
    },
    "convolutional": {
        **dict.fromkeys(("filters", "size", "stride", "padding", "groups"), INTEGER),
        **dict.fromkeys(
            ("pad", "batch_normalize", "flipped", "binary", "xnor", "stopbackward", "dontload", "dontloadscales"),
            BOOLEAN,
        ),
        "activation": STRING,
        **dict.fromkeys(("learning_rate", "clip", "smooth"), FLOAT),
        "numload": INTEGER,
    },
    "maxpool": {**dict.fromkeys(("size", "stride", "padding"), INTEGER), "stopbackward": BOOLEAN},
    "avgpool": {"stopbackward": BOOLEAN},
    "route": {"layers": INTEGER_LIST, **dict.fromkeys(("groups", "group_id"), INTEGER), "stopbackward": BOOLEAN},
    "reorg": {
        **dict.fromkeys(("stride", "extra"), INTEGER),
        **dict.fromkeys(("reverse", "flatten", "stopbackward"), BOOLEAN),
    },
    "reorg3d": {"stride": INTEGER, **dict.fromkeys(("reverse", "stopbackward"), BOOLEAN)},
    "shortcut": {
        "from": INTEGER, "activation": STRING, **dict.fromkeys(("alpha", "beta"), FLOAT), "stopbackward": BOOLEAN,
    },
    "dropout": {"probability": FLOAT, "stopbackward": BOOLEAN},
    "cost": {
        "type": STRING, **dict.fromkeys(("scale", "ratio", "noobj", "thresh"), FLOAT), "stopbackward": BOOLEAN,
    },
    "softmax": {
        "groups": INTEGER, "temperature": FLOAT, "tree": STRING, **dict.fromkeys(("spatial", "noloss"), BOOLEAN),
    },
    "region": {
        **dict.fromkeys(("classes", "coords", "num", "max", "log", "sqrt"), INTEGER),
        **dict.fromkeys(("softmax", "background", "rescore", "classfix", "absolute", "bias_match"), INTEGER),
        **dict.fromkeys(
            ("random", "jitter", "thresh", "object_scale", "noobject_scale", "class_scale", "coord_scale",
             "mask_scale"),
            FLOAT,
        ),
        "anchors": FLOAT_LIST,
        "tree": STRING,
        "map": STRING,
    },
}  # fmt: skip

# Options that change Darknet's training but not ours, with their neutral values.
NOT_FOLLOWED: Mapping[str, Mapping[str, float]] = {
    "net": {"adam": 0, "clip": 0},
    "convolutional": {"learning_rate": 1, "clip": 0},
}

# Options of these sections that change what the network computes; all others only change its training.
NETWORK_OPTIONS: Mapping[str, frozenset[str]] = {
    "net": frozenset(("width", "height", "channels", "inputs", "letter_box")),
    "region": frozenset(("classes", "coords", "num", "softmax", "background", "anchors", "tree", "map")),
    "convolutional": frozenset(OPTIONS["convolutional"]) - {"learning_rate", "clip", "smooth"},
    "cost": frozenset(),
}

# Options of forks that change what a layer computes, with the values that do not.
UNSUPPORTED: Mapping[str, tuple[str, ...]] = {
    "antialiasing": ("0",), "assisted_excitation": ("0",), "avgpool": ("0",), "bin_output": ("0",),
    "coordconv": ("0",), "deform": ("0",), "deformable": ("0",), "dilation": ("1",), "group_id": ("0",),
    "groups": ("1",), "maxpool_depth": ("0",), "new_coords": ("0",), "normalization": ("0", "none"),
    "out_channels": ("1",), "rotate": ("0",), "scale_x_y": ("1",), "share_index": (), "stretch": ("0",),
    "stretch_sway": ("0",), "sway": ("0",), "weights_normalization": ("none",), "weights_type": ("none",),
}  # fmt: skip
STRIDES = ("stride_x", "stride_y")  # of a fork: must equal `stride`

# Options of AlexeyAB's fork that only training reads.
FORK_TRAINING = frozenset(
    ("adversarial_lr", "attention", "augment_speed", "badlabels_rejection_percentage", "blur", "burnin_update", "cbn",
     "contrastive", "contrastive_color", "contrastive_jit_flip", "counters_per_class", "cutmix", "dropblock",
     "dropblock_size_abs", "dropblock_size_rel", "dynamic_minibatch", "ema_alpha", "equidistant_point", "focal_loss",
     "gaussian_noise", "grad_centr", "label_smooth_eps", "loss_scale", "max_chart_loss", "max_delta", "mixup",
     "mosaic", "mosaic_bound", "num_sigmas_reject_badlabels", "optimized_memory", "resize", "resize_step",
     "seq_scales", "sequential_subdivisions", "sgdr_cycle", "sgdr_mult", "show_receptive_field", "track",
     "train_only_bn", "try_fix_nan", "unsupervised", "weights_reject_freq", "workspace_size_limit_MB")
)  # fmt: skip
POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid", "random")
