"""From the files of a draft head to a drafter for a target.

Beside targets of the native runtime the compiled library computes EAGLE-3, else PyTorch, which is imported then. MTP
layers and DFlash heads are transformers'.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from outrider.drafters.heads.config import HeadConfig, read_config
from outrider.drafters.heads.network import HeadNetwork
from outrider.drafters.tree_shapes import TreeShape
from outrider.errors import ModelError, SettingError
from outrider.runtimes.base import Embeds, Model
from outrider.runtimes.files.folder import CONFIG, DFLASH_HEADS, UNREAD_HEADS, architecture_of, read_object, says_head
from outrider.runtimes.files.places import is_hub_name

if TYPE_CHECKING:
    from outrider.drafters.heads.drafter import HeadDrafter
    from outrider.drafters.heads.learner import Learner


SHIPPED = {"smollm2-head": Path(__file__).parent / "smollm2"}  # heads of the package, by the name that users give
MTP = "mtp"  # stands for the layers that the target itself comes with
Dtype = Literal["auto", "float32", "bfloat16", "float16", "q8_0", "q4_0"]


def is_head(name: Any) -> bool:
    """Whether a name or path is that of a draft head, by its config.json; of the hub's names only that is fetched.

    False too where there is no such file: as a model it is refused with the reason.
    """
    if not isinstance(name, str | Path):
        return False
    if str(name) in SHIPPED or str(name) == MTP:
        return True
    file: Path | None = Path(name).expanduser() / CONFIG
    try:
        if is_hub_name(str(name)) and importlib.util.find_spec("huggingface_hub") is not None:
            from outrider.runtimes.files.hub import fetch_file

            file = fetch_file(str(name), CONFIG)
        return file is not None and file.is_file() and says_head(read_object(file))
    except ModelError:
        return False


def head_drafter(
    head: str | Path,
    target: Model,
    *,
    shape: TreeShape | None = None,
    trees: bool = True,
    greedy: bool = False,
    dtype: Dtype = "auto",
    name: str = "head",
    learner: Learner | None = None,
) -> HeadDrafter:
    """A drafter with an EAGLE-3 head, in the format of speculators or in the older one, a DFlash head, or MTP layers.

    Args:
        head: a folder, a name of the Hugging Face hub, smollm2-head, which ships with Outrider, or mtp: the layers that
            the target comes with.
        target: what it was trained for. Its runtime has to give hidden states (PyTorch, native).
        shape: of the trees; None grows them where the head is sure.
        trees: False proposes chains, which rule `block` can judge. DFlash and MTP propose chains only.
        greedy: always draft the most probable tokens, even where the target samples.
        dtype: float32, bfloat16, float16, beside a target of the native runtime q8_0 or q4_0; or auto, what is fast on
            the device.
        name: what its tokens are attributed to.
        learner: teaches an EAGLE-3 head while nothing is asked (`training/idle.py`).

    Raises:
        ModelError: it is no head, of another target, or needs something that is not computed here.
    """
    from outrider.drafters.heads.drafter import HeadDrafter

    if str(head) == MTP:
        _require_torch(f"the MTP layers of {target.name}")
        from outrider.drafters.heads.mtp import open_mtp

        layers = open_mtp(target)
        return HeadDrafter(layers, trees=False, greedy=greedy, name=name, deepest=layers.deepest)
    folder = folder_of(str(head))
    config = read_object(folder / CONFIG)
    architecture = architecture_of(config)
    if architecture in DFLASH_HEADS:
        _require_torch(f"head {head}")
        from outrider.drafters.heads.dflash import open_dflash

        blocks = open_dflash(folder, config, target)
        return HeadDrafter(blocks, trees=False, greedy=greedy, name=name, deepest=blocks.deepest)
    read = eagle3_config(head, folder, target)
    network = network_of(folder, read, target, dtype)
    return HeadDrafter(network, shape=shape, trees=trees, greedy=greedy, name=name, learner=learner)


def eagle3_config(head: str | Path, folder: Path, target: Model) -> HeadConfig:
    """The sizes of an EAGLE-3 head for a target.

    Args:
        head: its name, for errors.
        folder: its files.

    Raises:
        ModelError: it is of another kind, or of another target.
    """
    config = read_object(folder / CONFIG)
    architecture = architecture_of(config)
    if architecture in UNREAD_HEADS:
        raise ModelError(
            f"head {head} is of {UNREAD_HEADS[architecture]}: EAGLE-3 and DFlash heads and MTP layers are computed"
        )
    if not says_head(config):
        raise ModelError(f"{CONFIG} of {folder} is not of a draft head: give it as a draft model")
    read = read_config(config, f"{CONFIG} of {folder}")
    traits = target.traits
    if traits.hidden_size is None:
        raise ModelError(f"head {head} reads hidden states, and model {target.name} gives none: use backend torch")
    if traits.hidden_size != read.target_hidden_size:
        raise ModelError(
            f"head {head} reads hidden states of {read.target_hidden_size} numbers and those of {target.name} have "
            f"{traits.hidden_size}: it is of another target"
        )
    read = read.reading(traits.layers)
    if max(read.layers) >= traits.layers:
        raise ModelError(
            f"head {head} reads layer {max(read.layers)} of {target.name}: of its {traits.layers} layers the states "
            f"after 0 to {traits.layers - 1} are given before the last norm"
        )
    return read


def require_eagle3(head: str | Path) -> None:
    """Raises ModelError where a head is of another kind, which is not trained here."""
    other = str(head) == MTP
    if not other:
        other = architecture_of(read_object(folder_of(str(head)) / CONFIG)) in DFLASH_HEADS
    if other:
        raise ModelError(f"head {head} is no EAGLE-3 head, and others are not trained here: leave --learn out")


def network_of(folder: Path, config: HeadConfig, target: Model, dtype: Dtype) -> HeadNetwork:
    """An EAGLE-3 head in the target's own runtime, or in PyTorch.

    Raises:
        ModelError: it is of another target.
        SettingError: the precision is not computed there.
    """
    from outrider.runtimes.native.model import NativeModel

    if isinstance(target, NativeModel):
        from outrider.drafters.heads.on_native import NativeHead, computes

        if computes(folder, dtype):
            return NativeHead(folder, config, target, dtype)
    if dtype in ("q8_0", "q4_0"):
        raise SettingError(
            f"dtype {dtype} is for heads in safetensors beside targets of the native runtime, and head {folder} beside "
            f"{target.name} is computed by PyTorch: use auto"
        )
    _require_torch(f"head {folder}")
    from outrider.drafters.heads.opening import open_head

    return open_head(folder, config, target if isinstance(target, Embeds) else None, target.traits.vocab_size, dtype)


def _require_torch(what: str) -> None:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        raise ModelError(f"{what} needs PyTorch: pip install 'outrider[torch]'")


def folder_of(name: str) -> Path:
    """The files of a head, fetched where its name is one of the hub.

    Raises:
        ModelError: there are none.
    """
    path = SHIPPED.get(name) or Path(name).expanduser()
    if name not in SHIPPED and is_hub_name(name) and importlib.util.find_spec("huggingface_hub") is not None:
        from outrider.runtimes.files.hub import fetch

        return fetch(name)
    if not (path / CONFIG).is_file():
        raise ModelError(f"head {name} does not exist: give a folder with a {CONFIG}, or a name of the hub")
    return path
