"""Settings and places: what the user configured, and where things live on disk."""

from flowbuilder.config.home import flowbuilder_home, prepare_home
from flowbuilder.config.places import DATA_DIR_NAME, find_data_dir, prepare_data_dir
from flowbuilder.config.settings import SETTING_NAMES, Settings, load_settings
from flowbuilder.config.urls import StoreUrl
from flowbuilder.config.values import parse_size

__all__ = [
    "DATA_DIR_NAME",
    "SETTING_NAMES",
    "Settings",
    "StoreUrl",
    "find_data_dir",
    "flowbuilder_home",
    "load_settings",
    "parse_size",
    "prepare_data_dir",
    "prepare_home",
]
