"""A delivered transformer computes the network in every graph, generates its sentences, and loads elsewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from latency_tables.agent.errors import RefusedGraph, UnusableRuntime
from latency_tables.agent.graph import check_network
from latency_tables.agent.runtimes.onnxruntime import OnnxRuntime
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.generation import END, beam_search
from latency_tables.text_network import GRAPHS, Generation, TextNetwork, archived, files_of, on_cpu
from supernets.delivery.export import export_operators, onnx_session, timed_operator
from supernets.delivery.merged_decoder import MERGED, SWITCH, merged_decoder
from supernets.delivery.parity import random_input
from supernets.delivery.transformer_folder import CARD, measured_archive, parity, transformer_archive
from supernets.delivery.transformer_graphs import draw_transformer
from supernets.encoder_decoder import EncoderDecoder, cut_out_transformer, padded, stepper
from supernets.errors import ExportFailed
from supernets.spaces.lowering import all_operators
from supernets.spaces.transformer import Transformer, to_hat
from supernets.spaces.transformer_space import HAT_SMALL, Sentence
from tests.latency_tables.test_text_network import SYMBOLS

NETWORKS = {
    "deep": HAT_SMALL.sample(np.random.default_rng(3), 1)[0],  # heads and attended layers differ by layer
    "smallest": HAT_SMALL.smallest(),
}
SENTENCE = Sentence(source_tokens=6, target_tokens=4, beam=2)
SOURCES = [[5, 9, 17, END], [4, END]]
SOURCE = [*SYMBOLS, *(f"s{n}" for n in range(36))]
TARGET = [*SYMBOLS, *(f"t{n}" for n in range(40))]


def module_of(network: Transformer, *, joined: bool = False) -> EncoderDecoder:
    space = replace(HAT_SMALL, joined=joined)
    sizes = space.sizes(40, 40 if joined else 44)
    whole = EncoderDecoder(sizes, generator=torch.Generator().manual_seed(0)).eval()
    return cut_out_transformer(whole, network)


@pytest.mark.parametrize("uniform", [False, True], ids=["by layer", "uniform"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_graph_is_the_network_and_the_beams_are_its_own(name: str, uniform: bool) -> None:
    network, module = NETWORKS[name], module_of(NETWORKS[name])
    how = Generation(beam=5, length_penalty=0.6, longest=9)
    archive = transformer_archive(
        module, network, source=SOURCE, target=TARGET, uniform=uniform, generation=how
    )
    assert archive == transformer_archive(
        module, network, source=SOURCE, target=TARGET, uniform=uniform, generation=how
    )
    files = files_of(archive)
    found = parity(module, network, files)
    assert found.holds and max(found.encoder, found.decoder, found.with_past) < 2e-5
    card = json.loads(files[CARD])
    assert card["network"] == to_hat(network) and card["caches"] == ("uniform" if uniform else "by layer")
    opened = TextNetwork(files, on_cpu())
    assert opened.generation == how
    wanted = beam_search(stepper(module, padded(SOURCES), network), 2, beam=5, length_penalty=0.6, longest=9)
    made = opened.generate(SOURCES)
    assert [[h.tokens for h in one] for one in made] == [[h.tokens for h in one] for one in wanted]
    np.testing.assert_allclose(made[0][0].score, wanted[0][0].score, rtol=1e-4)
    (answer,) = opened.translate(["s0 s3 s9"])
    assert all(word in TARGET for word in answer.split())
    past = onnx.load_model_from_string(files[GRAPHS[2]])
    heads = {value.type.tensor_type.shape.dim[1].dim_value for value in past.graph.input[2:]}
    assert (heads == {1}) == uniform


@pytest.mark.parametrize("name", NETWORKS)
def test_both_decoders_are_one_graph_with_the_weights_once(name: str) -> None:
    network, module = NETWORKS[name], module_of(NETWORKS[name])
    files = files_of(transformer_archive(module, network, uniform=True, merged=True))
    found = parity(module, network, files)
    assert found.holds and found.merged is not None and found.merged < 2e-5
    assert json.loads(files[CARD])["parity"]["merged"] == found.merged
    apart = len(files[GRAPHS[1]]) + len(files[GRAPHS[2]])
    assert len(files[GRAPHS[1]]) < len(files[MERGED]) < 0.7 * apart
    inputs = [value.name for value in onnx_session(files[MERGED]).get_inputs()]
    assert inputs[:3] == ["input_ids", "encoder_attention_mask", "encoder_hidden_states"]
    assert inputs[-1] == SWITCH and {"past_key_values.0.encoder.key"} < set(inputs)
    with pytest.raises(ExportFailed, match="uniform"):
        transformer_archive(module, network, merged=True)
    with pytest.raises(ExportFailed, match="none of one network"):
        merged_decoder(files[GRAPHS[2]], files[GRAPHS[1]])


def test_another_network_is_told_apart() -> None:
    network, module = NETWORKS["smallest"], module_of(NETWORKS["smallest"])
    files = files_of(transformer_archive(module, network))
    with torch.no_grad():
        module.decoder[0].feed_forward.second.bias[3] += 0.1
    assert not parity(module, network, files).holds


def test_what_fits_no_archive_is_refused() -> None:
    network = NETWORKS["smallest"]
    whole = EncoderDecoder(HAT_SMALL.sizes(40, 44)).eval()
    with pytest.raises(ExportFailed, match="cut it out first"):
        draw_transformer(whole, network)
    with pytest.raises(ExportFailed, match="target vocabulary has 41 tokens, the network 44"):
        transformer_archive(module_of(network), network, source=SOURCE, target=TARGET[:41])


def test_a_joined_dictionary_is_one_tokenizer() -> None:
    network = NETWORKS["smallest"]
    files = files_of(transformer_archive(module_of(network, joined=True), network, source=SOURCE))
    assert "tokenizer.json" in files and "target_tokenizer.json" not in files
    assert TextNetwork(files, on_cpu()).translate(["s1", "s2 s3"], Generation(longest=4))


def test_the_agent_times_the_sentence_that_was_asked_for() -> None:
    space = HAT_SMALL.priced(SENTENCE, 40)
    archive = measured_archive(HAT_SMALL, space.smallest(), SENTENCE, 40)
    assert check_network(archive) > 30
    fed = [spec.of_batch(1) for spec in space.inputs_at(6)]
    opened = OnnxRuntime().open(archive, fed, Setup(), np.random.default_rng(0))
    ((best, *_),) = opened.run()
    assert len(best.tokens) == 4 and best.tokens[-1] == END
    files = files_of(archive)
    with pytest.raises(RefusedGraph, match="not ONNX|cut off"):
        check_network(archived({**files, GRAPHS[1]: files[GRAPHS[1]][:-9]}))
    with pytest.raises(RefusedGraph, match="packed|damaged"):
        check_network(archive[:-40])
    with pytest.raises(ValueError, match="batch of 2"):
        OnnxRuntime().open(archive, [spec.of_batch(2) for spec in space.inputs_at(6)], Setup(), None)
    with pytest.raises(ValueError, match="length is not said"):
        OnnxRuntime().open(archive, None, Setup(), None)
    with pytest.raises(UnusableRuntime, match="float32"):
        OnnxRuntime().open(archive, fed, Setup(precision="float16"), None)


def test_a_row_is_a_chain_of_copies_with_weights_of_their_own() -> None:
    space = HAT_SMALL.priced(SENTENCE, 40)
    for op in all_operators(space, 6)[::5]:
        module, file = timed_operator(op), export_operators([op])[op]
        session = onnx_session(file)
        assert len(session.get_inputs()) == len(op.timed) == 1 + op.copies * (len(op.inputs) - 1)
        fed = [random_input(spec.of_batch(1), torch.Generator().manual_seed(1)) for spec in op.timed]
        found = session.run(
            None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), fed, strict=True)}
        )[0]
        with torch.no_grad():
            np.testing.assert_allclose(found, module(*fed).numpy(), atol=2e-5)
        weights = sum(p.numel() for p in module.parameters())
        assert weights == op.copies * op.parameters and op.row_factor == op.runs / op.copies


PROGRAM = """
    import json, sys, torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM
    folder, beams, binding = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "binding"
    model = ORTModelForSeq2SeqLM.from_pretrained(folder, use_io_binding=binding)
    found = []
    for source in json.loads(sys.argv[4]):
        made = model.generate(torch.tensor([source]), num_beams=beams, max_new_tokens=40, length_penalty=1.0)
        found.append(made[0].tolist())
    print(json.dumps(found))
"""


def with_optimum() -> str | None:
    """An interpreter that has optimum: this one, or the one that OPTIMUM_PYTHON names."""
    if "OPTIMUM_PYTHON" in os.environ:
        return os.environ["OPTIMUM_PYTHON"]
    return sys.executable if importlib.util.find_spec("optimum") else None


@pytest.mark.slow
@pytest.mark.skipif(
    with_optimum() is None, reason="optimum is not installed; OPTIMUM_PYTHON names an interpreter that has it"
)
@pytest.mark.parametrize(
    ("uniform", "binding"),
    [(False, False), (True, False), (True, True)],
    ids=["by layer", "uniform", "uniform, io binding"],
)
def test_optimum_loads_the_folder_and_gives_the_same_tokens(
    tmp_path: Path, uniform: bool, binding: bool
) -> None:
    # One shape is derived for all caches with binding: every layer must read one layer of the encoder alone.
    network = (
        replace(HAT_SMALL.largest(), decoder=HAT_SMALL.smallest().decoder) if binding else NETWORKS["deep"]
    )
    module = module_of(network)
    with torch.no_grad():
        # Sentences of an untrained network end nowhere; these end where another token would have come.
        module.output.weight[END] = 1.01 * module.output.weight[14]
    files = files_of(transformer_archive(module, network, uniform=uniform))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    opened = TextNetwork.open(tmp_path)
    for beam in (1, 5):
        told = [str(tmp_path), str(beam), "binding" if binding else "plain", json.dumps(SOURCES)]
        call = [str(with_optimum()), "-c", textwrap.dedent(PROGRAM), *told]
        done = subprocess.run(call, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        theirs = json.loads(done.stdout.splitlines()[-1])
        # Theirs begin with END, which starts a decoder.
        ours = [opened.generate([source], Generation(beam, 1.0, 39))[0][0].tokens for source in SOURCES]
        assert all(1 < len(tokens) < 30 for tokens in ours)
        assert [row[1:] for row in theirs] == [list(tokens) for tokens in ours]
