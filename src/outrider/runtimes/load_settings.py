"""What a model is opened by: the same value for every runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outrider.runtimes.files.folder import check_folder
from outrider.runtimes.files.places import Place, find_place


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What `outrider.load` was asked for. Each runtime has a `load` that takes it.

    Attributes:
        name: a name or path, as text.
        place: where the files are, if somebody has found them already.
        max_memory: as in `outrider.load`, in bytes.
        dtype, device, threads, cache_type, offload_folder, trust_remote_code, progress: as in `outrider.load`.
    """

    name: str
    place: Place | None
    dtype: str
    device: str
    threads: int | None
    cache_type: str | None
    max_memory: int | None
    offload_folder: str | Path | None
    trust_remote_code: bool
    progress: Callable[[str], None]

    def found(self) -> Place:
        """Where the files are; the first time they are downloaded, or converted.

        Raises:
            ModelError: there are none, or a folder is damaged.
        """
        place = self.place or find_place(self.name, self.progress, code=self.trust_remote_code)
        if place.path.is_dir():
            check_folder(place.path)
        return place
