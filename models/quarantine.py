"""How foreign packages are let in: what they change in the process is put back, and their pickles stay shut."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class NoncommercialError(ValueError):
    """Weights under CC BY-NC were asked for without accepting their licence."""


def require_acceptance(package: str, accepted: bool) -> None:
    """Refuse weights that may not be used commercially until the user has said so."""
    if not accepted:
        raise NoncommercialError(
            f"the weights of {package} are CC BY-NC 4.0; if your use is, too, accept them: --accept-noncommercial, "
            "or accept_noncommercial=True in the recipe"
        )


@contextlib.contextmanager
def process_unchanged() -> Iterator[None]:
    """Whatever the body imports or builds: environment, module path, torch flags, threads and random state stay."""
    environment, path, threads = dict(os.environ), list(sys.path), torch.get_num_threads()
    flags = [(owner, name, getattr(owner, name)) for owner, name in _torch_flags()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for owner, name, value in flags:
            setattr(owner, name, value)
        torch.set_num_threads(threads)
        sys.path[:] = path
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


def _torch_flags() -> list[tuple[object, str]]:
    """The process-wide switches that the codec packages are known to flip (codecs.md B), and their neighbours."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return [
        (cudnn, "benchmark"),
        (cudnn, "deterministic"),
        (cudnn, "allow_tf32"),
        (matmul, "allow_tf32"),
        (matmul, "allow_fp16_reduced_precision_reduction"),
    ]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The network's state dict in a released checkpoint of Music2Latent or CoDiCodec, without running its pickle.

    Both keep it under `gen_state_dict`, beside NumPy scalars, the only other things allowed in.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}; download it from its publisher and give the file's path")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a checkpoint that can be read without running code in it: {error}") from error
    state = content.get("gen_state_dict") if isinstance(content, dict) else None
    if not state:
        raise ValueError(f"{path} holds no 'gen_state_dict'; expected a released Music2Latent or CoDiCodec checkpoint")
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _numpy_scalars() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """What NumPy pickles of plain numbers refer to, under the names of NumPy 1 and of NumPy 2."""
    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]
    assert callable(scalar)
    dtypes = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *dtypes,
    ]


@contextlib.contextmanager
def seeded_process(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Global random state drawn from the generator, for code that takes none; restored afterwards."""
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
