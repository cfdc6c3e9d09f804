"""A delivered transformer without torch: its folder or archive opened, and sentences generated from it.

The folder is that of the optimum and transformers.js convention: `encoder_model.onnx`,
`decoder_model.onnx`, `decoder_with_past_model.onnx`, `config.json`, `generation_config.json`, tokenizers. The
encoder runs once, the decoder once with END, then one token a call: caches of what was generated follow the
beams, those of what is read are equal within a sentence and stay.

    network = TextNetwork.open("network.zip")
    print(network.translate(["a sentence of the tokenizer's words"], beam=5))
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latency_tables.errors import InvalidTextNetwork
from latency_tables.generation import END, PADDING, Hypothesis, Ints, Step, beam_search
from latency_tables.text_tokens import Tokenizer, read_json, tokenizer_of

ENCODER: Final = "encoder_model.onnx"
DECODER: Final = "decoder_model.onnx"
WITH_PAST: Final = "decoder_with_past_model.onnx"
GRAPHS: Final = (ENCODER, DECODER, WITH_PAST)
CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER: Final = "tokenizer.json"
TARGET_TOKENIZER: Final = "target_tokenizer.json"
"""Of the language that is written, where it has a vocabulary of its own."""
MOST_BYTES: Final = 2**31
MOST_FILES: Final = 32
_SYMBOLS: Final = {"decoder_start_token_id": END, "eos_token_id": END, "pad_token_id": PADDING}

Array = npt.NDArray[Any]
OpenSession = Callable[[bytes], Any]
"""The bytes of a graph -> an onnxruntime.InferenceSession."""


def read_files(path: Path | str) -> dict[str, bytes]:
    """The files of a folder or of an archive. Raises InvalidTextNetwork."""
    place = Path(path)
    if place.is_dir():
        return _complete({f.name: f.read_bytes() for f in sorted(place.iterdir()) if f.is_file()}, place.name)
    try:
        return files_of(place.read_bytes())
    except FileNotFoundError:
        raise InvalidTextNetwork(f"there is no file or folder {place}") from None


def is_archive(data: bytes) -> bool:
    """Whether these bytes are an archive and no ONNX file."""
    return data[:4] == b"PK\x03\x04"


def files_of(archive: bytes) -> dict[str, bytes]:
    """The files of an archive. Nothing in it may be packed: what it holds is as large as it is. Raises
    InvalidTextNetwork."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            entries = opened.infolist()
            if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise InvalidTextNetwork(f"the archive holds more than {MOST_FILES} files, or 2 GiB")
            if any(entry.compress_type != zipfile.ZIP_STORED or "/" in entry.filename for entry in entries):
                raise InvalidTextNetwork("the archive has packed files or folders; pack it with zip -0 -j")
            return _complete({entry.filename: opened.read(entry) for entry in entries}, "the archive")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidTextNetwork("the file is no archive of a transformer, or is damaged") from error


def archived(files: Mapping[str, bytes]) -> bytes:
    """An archive of these files, the same bytes for the same files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as made:
        for name in sorted(files):
            made.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
    return written.getvalue()


def _complete(files: dict[str, bytes], where: str) -> dict[str, bytes]:
    lacking = [name for name in (*GRAPHS, CONFIG) if name not in files]
    if lacking:
        raise InvalidTextNetwork(
            f"{where} has no {', '.join(lacking)}; it is no transformer to generate with"
        )
    return files


def on_cpu(threads: int = 1) -> OpenSession:
    """Sessions of ONNX Runtime on the processor. Raises InvalidTextNetwork where it is not installed, or does
    not open the graph."""

    def opened(graph: bytes) -> Any:
        try:
            import onnxruntime  # noqa: PLC0415 - an extra
        except ImportError:
            raise InvalidTextNetwork("running it needs ONNX Runtime: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors have no common class of their own
            raise InvalidTextNetwork(f"ONNX Runtime does not open a graph: {str(error)[:300]}") from error

    return opened


@dataclass(frozen=True)
class Generation:
    """How sentences are generated. longest, shortest: tokens before END."""

    beam: int = 1
    length_penalty: float = 1.0
    longest: int = 200
    shortest: int = 1

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Generation:
        """From the fields of a `generation_config.json`. Raises InvalidTextNetwork."""
        own = cls()
        beam, penalty = data.get("num_beams", own.beam), data.get("length_penalty", own.length_penalty)
        longest = data.get("max_new_tokens", own.longest + 1)
        shortest = data.get("min_new_tokens", own.shortest + 1)
        whole = (beam, longest, shortest)
        if any(type(n) is not int for n in whole) or not isinstance(penalty, (int, float)):
            raise InvalidTextNetwork(f"{GENERATION}: beams and tokens are whole numbers, the penalty is one")
        if beam < 1 or not 1 <= shortest <= longest:
            raise InvalidTextNetwork(f"{GENERATION}: num_beams from 1, 1 <= min_new_tokens <= max_new_tokens")
        return cls(beam, float(penalty), longest - 1, shortest - 1)

    def to_json(self) -> dict[str, Any]:
        """The fields of a `generation_config.json`, which count END among the tokens."""
        return {
            "num_beams": self.beam,
            "length_penalty": self.length_penalty,
            "max_new_tokens": self.longest + 1,
            "min_new_tokens": self.shortest + 1,
            "early_stopping": True,
        }


class TextNetwork:
    """An encoder-decoder in three sessions. Made by `open` or `of_files`."""

    def __init__(self, files: Mapping[str, bytes], open_session: OpenSession) -> None:
        self._files = dict(files)
        config = read_json(files, CONFIG)
        wrong = [name for name, value in _SYMBOLS.items() if config.get(name) != value]
        if wrong:
            raise InvalidTextNetwork(
                f"{CONFIG}: {wrong[0]} must be {_SYMBOLS[wrong[0]]}; networks with other symbols are not run "
                "here"
            )
        self.generation = Generation.of(read_json(files, GENERATION) if GENERATION in files else {})
        self.encoder, self.decoder, self.with_past = (open_session(files[name]) for name in GRAPHS)
        self._first, self._later = _outputs(self.decoder), _outputs(self.with_past)

    @classmethod
    def open(cls, path: Path | str, *, threads: int = 1) -> TextNetwork:
        """A folder or an archive. Raises InvalidTextNetwork."""
        return cls(read_files(path), on_cpu(threads))

    # --- tokens

    @cached_property
    def source_words(self) -> Tokenizer:
        """How a sentence becomes tokens."""
        return tokenizer_of(self._files, TOKENIZER)

    @cached_property
    def target_words(self) -> Tokenizer:
        """How tokens become a sentence."""
        own = TARGET_TOKENIZER in self._files
        return tokenizer_of(self._files, TARGET_TOKENIZER) if own else self.source_words

    def translate(self, sentences: Sequence[str], generation: Generation | None = None) -> list[str]:
        """The best sentence for each. Raises InvalidTextNetwork for one that has no words."""
        found = self.generate([self.source_words.encode(text) for text in sentences], generation)
        return [self.target_words.decode(best[0].tokens) if best else "" for best in found]

    # --- generation

    def generate(
        self, sources: Sequence[Sequence[int]], generation: Generation | None = None
    ) -> list[list[Hypothesis]]:
        """Finished hypotheses of every source, best first. sources: tokens, END last."""
        how = generation or self.generation
        if not sources:
            return []
        return beam_search(
            self.stepper(sources),
            len(sources),
            beam=how.beam,
            length_penalty=how.length_penalty,
            longest=how.longest,
            shortest=how.shortest,
        )

    def stepper(self, sources: Sequence[Sequence[int]]) -> Step:
        """Decoding of these sources step by step, for `latency_tables.generation.beam_search`."""
        tokens = _batch(sources)
        readable = (tokens != PADDING).astype(np.int64)
        (memory,) = self.encoder.run(None, {"input_ids": tokens, "attention_mask": readable})
        return _Stepper(self, memory, readable).step


class _Stepper:
    """The caches of one generation."""

    def __init__(self, network: TextNetwork, memory: Array, readable: Array) -> None:
        self._network, self._memory, self._readable = network, memory, readable
        self._own: dict[str, Array] = {}  # of what was generated, rows as in the call before
        self._read: dict[str, Array] = {}  # of what is read, a row for each sentence
        self._spread: dict[str, Array] = {}  # the same, and the mask, a row for each beam
        self._sentences = np.arange(len(memory))

    def step(self, tokens: Ints, parents: Ints) -> npt.NDArray[np.floating[Any]]:
        if not self._read:
            return self._begin(tokens)
        sentences = self._sentences[parents]
        if not np.array_equal(sentences, self._sentences) or not self._spread:
            self._spread = {name: kept[sentences] for name, kept in self._read.items()}
        if not np.array_equal(parents, np.arange(len(self._sentences))):
            self._own = {name: kept[parents] for name, kept in self._own.items()}
        self._sentences = sentences
        names = self._network._later
        logits, *present = self._network.with_past.run(
            names, {"input_ids": tokens[:, None], **self._spread, **self._own}
        )
        self._own = {_past(name): kept for name, kept in zip(names[1:], present, strict=True)}
        return _of_last(logits)

    def _begin(self, tokens: Ints) -> npt.NDArray[np.floating[Any]]:
        names = self._network._first
        fed = {
            "input_ids": tokens[:, None],
            "encoder_attention_mask": self._readable,
            "encoder_hidden_states": self._memory,
        }
        logits, *present = self._network.decoder.run(names, fed)
        kept = {_past(name): value for name, value in zip(names[1:], present, strict=True)}
        self._own = {name: value for name, value in kept.items() if ".decoder." in name}
        self._read = {name: value for name, value in kept.items() if ".encoder." in name}
        self._read["encoder_attention_mask"] = self._readable
        return _of_last(logits)


def _past(name: str) -> str:
    return name.replace("present.", "past_key_values.", 1)


def _of_last(logits: Array) -> npt.NDArray[np.floating[Any]]:
    found: npt.NDArray[np.floating[Any]] = logits[:, -1]
    return found


def _outputs(session: Any) -> list[str]:
    """Logits first, then the caches. Raises InvalidTextNetwork."""
    names = [output.name for output in session.get_outputs()]
    if "logits" not in names or not all(name.startswith("present.") for name in names if name != "logits"):
        raise InvalidTextNetwork(
            "a decoder gives `logits` and `present...`; this one is of another convention"
        )
    return ["logits", *(name for name in names if name != "logits")]


def _batch(sources: Sequence[Sequence[int]]) -> Ints:
    if not all(len(source) for source in sources):
        raise InvalidTextNetwork("a source has no tokens; END at least")
    batch = np.full((len(sources), max(len(source) for source in sources)), PADDING, dtype=np.int64)
    for row, source in zip(batch, sources, strict=True):
        row[: len(source)] = source
    return batch
