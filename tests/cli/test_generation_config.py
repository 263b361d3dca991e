"""generation_config.json: what `outrider generate` takes from it, says of it, and what `outrider check` leaves out."""

import json

import pytest
from calls import PROMPT

from outrider import SettingError
from outrider.cli.options.sampling import SamplingOptions
from outrider.maths.sampling import SamplingParams
from tiny import model as tiny_model

pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture
def recommending(tmp_path):
    """Makes a model folder whose makers recommend something."""

    def make(**settings):
        folder = tiny_model.save(tmp_path / "model")
        file = folder / "generation_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        return folder

    return make


QWEN = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1}


def test_what_the_makers_recommend_is_the_default(recommending, capsys):
    folder = str(recommending(**QWEN))
    expected = SamplingParams(temperature=0.6, top_k=20, top_p=0.95, repetition_penalty=1.1)
    assert SamplingOptions().params(folder) == expected
    said = capsys.readouterr().err
    assert "temperature 0.6, top_k 20, top_p 0.95, repetition_penalty 1.1 from the model's generation_config" in said
    assert "--generation-config none" in said
    assert len(said.splitlines()) == 1
    assert SamplingOptions(generation_config="none").params(folder) == SamplingParams(temperature=0)
    assert SamplingOptions(top_k=3, temp=0.5).params(folder).top_k == 3
    assert SamplingOptions(temp=0).params(folder) == SamplingParams(temperature=0, repetition_penalty=1.1)


def test_smollm2_recommends_what_its_converted_folder_says(recommending, monkeypatch):
    folder = recommending(**QWEN)
    monkeypatch.setattr("outrider.runtimes.files.recommended.converted_folder", lambda: folder)
    assert SamplingOptions().params("smollm2").top_k == 20
    assert SamplingOptions(generation_config="none").params("smollm2") == SamplingParams(temperature=0)


def test_a_model_of_the_hub_recommends_what_its_snapshot_says(recommending, cached_model, capsys):
    name = cached_model(recommending(**QWEN))
    assert SamplingOptions().params(name).top_p == 0.95
    assert "temperature 0.6" in capsys.readouterr().err
    folder = recommending()
    (folder / "generation_config.json").unlink()
    assert SamplingOptions().params(cached_model(folder, "bare")) == SamplingParams(temperature=0)


@pytest.fixture
def gguf_file(tmp_path):
    """Makes the header of a GGUF file with settings by the names that gguf's writer gives them."""
    gguf = pytest.importorskip("gguf")

    def make(**settings):
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
        for name, value in settings.items():
            getattr(writer, f"add_sampling_{name}")(value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return str(tmp_path / "model.gguf")

    return make


def test_what_a_gguf_file_recommends_is_the_default(gguf_file, capsys):
    file = gguf_file(temp=0.6, top_k=20, top_p=0.95, min_p=0.05, penalty_repeat=1.1, mirostat=0)
    expected = SamplingParams(temperature=0.6, top_k=20, top_p=0.95, min_p=0.05, repetition_penalty=1.1)
    assert SamplingOptions().params(file) == expected
    assert "min_p 0.05, repetition_penalty 1.1 from the model's GGUF file (--gener" in capsys.readouterr().err
    assert SamplingOptions(generation_config="none").params(file) == SamplingParams(temperature=0)
    assert SamplingOptions().params(gguf_file(top_k=9)) == SamplingParams(temperature=1, top_k=9)
    assert SamplingOptions().params(gguf_file()) == SamplingParams(temperature=0)


def test_what_cannot_be_followed_of_a_gguf_file_is_said(gguf_file, capsys):
    assert SamplingOptions().params(gguf_file(mirostat=2, xtc_probability=0.0)) == SamplingParams(temperature=0)
    assert capsys.readouterr().err.strip() == "mirostat in the model's GGUF file is not supported"
    SamplingOptions().params(gguf_file(penalty_repeat=1.1, penalty_last_n=64))
    assert "penalty_last_n in it is not supported" in capsys.readouterr().err


def test_a_file_that_samples_by_nothing_in_particular_changes_nothing(recommending, capsys):
    folder = str(recommending())
    assert SamplingOptions().params(folder) == SamplingParams(temperature=0)
    assert SamplingOptions().params("smollm2") == SamplingOptions().params() == SamplingParams(temperature=0)
    assert SamplingOptions().params(str(recommending(temperature=0.6, top_k=20))) == SamplingParams(temperature=0)
    assert capsys.readouterr().err == ""


def test_what_cannot_be_followed_is_said(recommending, capsys):
    folder = str(recommending(no_repeat_ngram_size=3, num_beams=1, suppress_tokens=[4]))
    assert SamplingOptions().params(folder).logit_bias == {4: -float("inf")}
    said = capsys.readouterr().err
    assert "no_repeat_ngram_size in it is not supported" in said
    assert "num_beams" not in said


def test_what_is_out_of_range_is_refused(recommending):
    with pytest.raises(SettingError, match="temperature"):
        SamplingOptions().params(str(recommending(do_sample=True, temperature="hot")))


def test_generate_says_it_once_and_leaves_standard_output_alone(outrider, recommending):
    folder = recommending(repetition_penalty=5.0)
    greedy = outrider("generate", PROMPT, "-m", folder, "-n", 20, "--generation-config", "none")
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 20)
    assert status == greedy[0] == 0
    assert err.count("generation_config.json") == 1
    assert "generation_config.json" not in greedy[2]
    assert out != greedy[1]
    penalised = outrider(
        "generate", PROMPT, "-m", folder, "-n", 20, "--generation-config", "none", "--repetition-penalty", 5
    )
    assert out == penalised[1]


def test_the_reference_of_check_is_neutral(outrider, recommending):
    folder = recommending(repetition_penalty=5.0, suppress_tokens=[5, 6], no_repeat_ngram_size=2)
    status, out, err = outrider("check", "-m", folder, "-n", 16, "--limit", 2, "--json")
    assert status == 0, err
    assert {outcome["reference"] for outcome in json.loads(out)["outcomes"]} == {"transformers"}
