"""One transformer alone as a file: safetensors, with what it is in the header, so that nothing else is
needed.

HAT's own release of a sub-network is the checkpoint of its whole super network, of which an architecture's
slices count; here it is as large as the network is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from latency_tables import strict_json
from supernets.encoder_decoder import EncoderDecoder
from supernets.errors import InvalidArchitecture, InvalidCheckpoint
from supernets.spaces.transformer import Transformer, TransformerSizes, from_hat, from_yaml, to_hat

FORM: Final = "bespoke-transformer-1"
_SAME: Final = {"target_embedding.weight": "source_embedding.weight"}  # with a joined dictionary


def save_transformer(path: Path, module: EncoderDecoder, network: Transformer) -> None:
    """Write a network with its weights; nothing is left half written. module: at exactly its sizes
    (`cut_out_transformer`). Raises InvalidArchitecture for one that holds more."""
    if module.sizes != module.sizes.cut(network):
        raise InvalidArchitecture("the module holds more than this network; cut it out first")
    state = {key: value.detach().contiguous() for key, value in module.state_dict().items()}
    for key in _SAME if module.sizes.joined else ():
        del state[key]
    about = {
        "form": FORM,
        "sizes": json.dumps(asdict(module.sizes)),
        "network": json.dumps(to_hat(network)),
    }
    with replacing(path) as partial:
        save_file(state, partial, about)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write that becomes `path` when it is complete; nothing is left of it otherwise."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_transformer(path: Path) -> tuple[EncoderDecoder, Transformer]:
    """A network that `save_transformer` wrote, in evaluation mode. Raises InvalidCheckpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            about, state = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InvalidCheckpoint(f"there is no file {path.name}; give that of a network cut out") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path.name} is damaged or no safetensors file; cut it out again") from error
    if about.get("form") != FORM:
        raise InvalidCheckpoint(
            f"{path.name} is no transformer cut out by `bespoke supernets cut`; its header does not say "
            f"{FORM}"
        )
    try:
        sizes, network = (
            _sizes(strict_json.loads(about["sizes"])),
            from_hat(strict_json.loads(about["network"])),
        )
        module = EncoderDecoder(sizes)
        if sizes.joined:
            state.update({key: state[same] for key, same in _SAME.items()})
        module.load_state_dict(state)
        if sizes != sizes.cut(network):
            raise InvalidArchitecture("its sizes are those of another network")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InvalidCheckpoint(f"{path.name} contradicts its header: {first}; cut it out again") from error
    return module.eval(), network


def _sizes(data: Mapping[str, Any]) -> TransformerSizes:
    lists = ("encoder_feed_forward", "decoder_feed_forward")
    given: dict[str, Any] = {name: tuple(v) if name in lists else v for name, v in data.items()}
    return TransformerSizes(**given)


def read_architecture(path: Path) -> Transformer:
    """An architecture in either of HAT's forms: the YAML of a release, or the config as JSON. Raises
    InvalidArchitecture that names the entry."""
    import yaml  # noqa: PLC0415 - the service's extra

    try:
        # JSON is YAML too.
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArchitecture(f"{path.name} is neither YAML nor JSON") from error
    if not isinstance(data, dict):
        raise InvalidArchitecture(f"{path.name} holds no entries of an architecture")
    return from_hat(data) if "encoder" in data else from_yaml(data)
