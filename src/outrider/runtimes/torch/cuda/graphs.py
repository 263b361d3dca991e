"""Work that is captured as a graph on its third use, and replayed from then on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Hashable

from outrider.errors import first_line
from outrider.runtimes.torch.cuda.device import Device, Work

CAPTURED_AT = 3  # uses; the first two compile kernels and choose algorithms, and many shapes come up once or twice only


class Graphs:
    """Runs work by a key; work of one key is always the same, on the same memory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._uses: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, Work] = {}

    def __len__(self) -> int:
        return len(self._captured)

    def run(self, key: Hashable, work: Work) -> bool:
        """Run the work, or its graph.

        Returns:
            whether it ran as it will run from now on.
        """
        replay = self._captured.get(key)
        if replay is not None:
            replay()
            return True
        self._uses[key] += 1
        if self._uses[key] == CAPTURED_AT:
            self._captured[key] = replay = self._capture(work)
            replay()
        else:
            work()
        return False

    def _capture(self, work: Work) -> Work:
        try:
            return self._device.capture(work)
        except RuntimeError as error:
            warnings.warn(
                f"passes are launched one kernel at a time, because no graph of them can be captured: "
                f"{first_line(error)}",
                RuntimeWarning,
                stacklevel=2,
            )
            return work
