"""Trained teachers and first students that ship with the package.

Weights are kept as float16; whoever loads them gets the rounded values as float32, and so did the
benchmark.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from cachetools import LRUCache, cached

from intuitive.common import records
from intuitive.common.weights import load_weights, save_weights

from .config import SettingConfig, setting_config, student_decoder, teacher_decoder
from .learned import LearnedTeacher
from .model import StackedDecoder
from .teacher import ExactTeacher, Teacher, TeacherConfig

WEIGHTS = Path(__file__).parent / "weights"
TEACHERS = ("exact", "learned")


@dataclass(frozen=True, eq=False)
class Shipped:
    """A setting with its trained models."""

    name: str
    config: SettingConfig
    teacher: LearnedTeacher
    students: StackedDecoder  # one first student per seed
    made: Mapping[str, str]


def save_shipped(
    folder: Path,
    name: str,
    teacher: StackedDecoder,
    students: StackedDecoder,
    made: Mapping[str, str],
) -> Path:
    """Write a setting's models as float16, with the hash of their config."""
    weights = {"teacher": teacher.weights.half(), "students": students.weights.half()}
    made = dict(made) | {"config_hash": records.config_hash(setting_config(name))}
    return save_weights(folder / f"{name}.safetensors", weights, made)


def load_shipped(
    name: str, *, folder: Path = WEIGHTS, device: torch.device | str = "cpu"
) -> Shipped:
    """A setting's models, in float32.

    Raises:
        ValueError: no such setting, or its weights were trained with another config.
        FileNotFoundError: no weights yet.
    """
    config = setting_config(name)
    with torch.inference_mode(False):  # for whoever asks later, in whatever mode
        return _load(config, name, folder, device)


def _load(config: SettingConfig, name: str, folder: Path, device: torch.device | str) -> Shipped:
    weights, made = load_weights(folder / f"{name}.safetensors")
    if made.get("config_hash") != records.config_hash(config):
        raise ValueError(
            f"the weights of setting={name!r} were trained with another config: run "
            f"benchmarks/trd_methods.py --setting {name} --stage train."
        )
    rows = {key: weight.float().to(device) for key, weight in weights.items()}
    teacher = StackedDecoder(teacher_decoder(config), rows["teacher"]).decoder()
    students = StackedDecoder(student_decoder(config), rows["students"])
    for module in (teacher, students):
        module.requires_grad_(False)
    return Shipped(name, config, LearnedTeacher(config.sums, teacher), students, made)


@cached(cache=LRUCache(4), lock=threading.Lock())
def shipped(name: str) -> Shipped:
    """The models of this package, loaded once; not to be changed, `copies` of them may be."""
    return load_shipped(name)


def check_teacher(name: str) -> None:
    """Do nothing if this is one of TEACHERS.

    Raises:
        ValueError: it is not.
    """
    if name not in TEACHERS:
        raise ValueError(f"teacher={name!r} must be one of {', '.join(TEACHERS)}.")


def named_teacher(name: str, setting: str, repair: int | float) -> Teacher:
    """The exact teacher with λ = `repair`, or the learned one that ships and has no λ to set.

    Raises:
        ValueError: no such teacher or setting; λ outside [0, 1].
        FileNotFoundError: the learned teacher's weights are not there.
    """
    check_teacher(name)
    if name == "learned":
        return shipped(setting).teacher
    sums = setting_config(setting).sums
    return ExactTeacher(sums=sums, config=TeacherConfig(repair=repair))
