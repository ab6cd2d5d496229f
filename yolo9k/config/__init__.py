"""Configs: the schema (the only place of defaults), loading, and the catalogue of shipped configs."""

from yolo9k.config.catalogue import config_names, dataset_names
from yolo9k.config.classifier import ClassifierConfig
from yolo9k.config.datasets import AnyDataset, DatasetConfig, JointConfig
from yolo9k.config.loading import (
    RunConfig,
    dump,
    load_classifier_config,
    load_config,
    load_dataset_config,
    load_run_config,
    parse_size,
    updated,
    with_overrides,
)
from yolo9k.config.overrides import Override
from yolo9k.config.schema import Config

__all__ = [
    "AnyDataset",
    "ClassifierConfig",
    "Config",
    "DatasetConfig",
    "JointConfig",
    "Override",
    "RunConfig",
    "config_names",
    "dataset_names",
    "dump",
    "load_classifier_config",
    "load_config",
    "load_dataset_config",
    "load_run_config",
    "parse_size",
    "updated",
    "with_overrides",
]
