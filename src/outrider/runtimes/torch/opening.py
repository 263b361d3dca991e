"""Opens a model in PyTorch: without transformers where that is possible."""

from __future__ import annotations

from typing import Any

import torch

from outrider.runtimes.base import Model
from outrider.runtimes.load_settings import LoadSettings
from outrider.runtimes.torch.llama_folder import open_known
from outrider.runtimes.torch.offloading import offloading


def load(asked: LoadSettings) -> Model:
    """See outrider.load."""
    how: dict[str, Any] = {
        "dtype": asked.dtype,
        "device": asked.device,
        "trust_remote_code": asked.trust_remote_code,
        "progress": asked.progress,
    }
    model: Model | None
    if asked.max_memory is not None and asked.offload_folder is not None:
        limited = offloading(asked.max_memory, asked.offload_folder)
        from outrider.runtimes.torch.loading import load_offloaded

        model = load_offloaded(asked.found(), limited, **how)
    else:
        place = asked.found()
        model = open_known(place, **how)
        if model is None:  # transformers takes seconds to import and to build a model
            from outrider.runtimes.torch.loading import load as load_with_transformers

            model = load_with_transformers(place, **how)
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    return model
