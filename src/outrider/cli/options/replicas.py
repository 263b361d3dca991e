"""Several replicas of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from outrider.cli.options.group import option
from outrider.errors import SettingError

REPLICAS = "Replicas"


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """How many processes serve, and where."""

    replicas: Annotated[
        int | None,
        option(
            "--replicas",
            "N",
            "Serve by N processes of Ray, each with models of its own. Requests go where their beginning was read.",
            REPLICAS,
        ),
    ] = None
    address: Annotated[
        str | None,
        option("--address", "ADDRESS", "The Ray cluster of the replicas, or auto. Default: this machine.", REPLICAS),
    ] = None

    def check(self, for_one: Mapping[str, bool]) -> None:
        """Raises SettingError where a value is out of its range, or a flag is given that one process alone can obey.

        Args:
            for_one: by such a flag, whether it is given.
        """
        if self.replicas is None:
            if self.address is not None:
                raise SettingError("--address is where --replicas are: give --replicas N as well, or leave it out")
            return
        if self.replicas < 1:
            raise SettingError(f"--replicas is {self.replicas}: it must be at least 1")
        for flag in (flag for flag, given in for_one.items() if given):
            raise SettingError(f"{flag} is for one process and --replicas is {self.replicas}: leave one of them out")
