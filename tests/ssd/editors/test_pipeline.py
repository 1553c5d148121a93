"""Editing pipelines of diffusers: tiny twins of the real classes, really loaded, called with what each takes."""

import importlib.util
import json
import shutil
import sys
import types
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from tests.edit_world import REPOSITORY
from tests.ssd.diffusion import original_names
from tests.ssd.editors.twins import QWEN_TOKENS, QwenProcessor, byte_tokenizer, write_twin
from threestudio_ssd.editors import EditorKeys, EditorPrompts, Pipeline, Views, build_editor, load_editor
from threestudio_ssd.editors import diffusers_pipeline as loading
from threestudio_ssd.editors.pipeline import fitting_sides
from threestudio_ssd.errors import ConfigError, MissingPackageError
from threestudio_ssd.pretrained import ModelLocation

CPU = torch.device("cpu")
PROMPTS = EditorPrompts("a red ball", "make it blue")
CALLS = {
    # class -> (network calls, predictions) of two steps on two views
    "Flux2KleinPipeline": (4, 4),
    "Flux2KleinInpaintPipeline": (2, 2),
    "FluxKontextPipeline": (2, 4),
    "FluxKontextInpaintPipeline": (1, 2),
    "ZImageImg2ImgPipeline": (1, 2),
    "StableDiffusionInstructPix2PixPipeline": (2, 12),
    "StableDiffusionXLInstructPix2PixPipeline": (2, 12),
}


@pytest.fixture(scope="session")
def twin(tmp_path_factory):
    """Folders of twins by class, each written once."""
    folders = {}

    def of(name):
        if name not in folders:
            folders[name] = write_twin(name, tmp_path_factory.mktemp("twins") / name)
        return folders[name]

    return of


@pytest.fixture
def pictures(generator):
    """Two views of a size that no pipeline takes as it is."""
    images, sources = torch.rand(2, 2, 3, 66, 78, generator=generator)
    masks = torch.zeros(2, 1, 66, 78)
    masks[:, :, 20:50, 30:60] = 1
    return Views(images, sources, seeds=[1, 2], strength=0.5, masks=masks, words=["", "from above"])


def load(model, words=("from above",), **options):
    keys = EditorKeys(model=str(model), editor={"name": "pipeline", "num_inference_steps": 2, **options})
    return load_editor(keys, CPU, PROMPTS, words)


@pytest.mark.parametrize("name", CALLS)
def test_a_pipeline_edits_views(twin, pictures, name):
    editor = load(twin(name))
    network = editor.network
    assert network.pipeline.text_encoder is None
    assert getattr(network.pipeline, "text_encoder_2", None) is None
    assert editor.facts["pipeline"] == name
    edited, outside = editor(pictures), (pictures.masks == 0).expand_as(pictures.images)
    assert (network.counters.network_calls, network.counters.rows) == CALLS[name]
    assert edited.shape == pictures.images.shape
    assert torch.equal(edited[outside], pictures.images[outside])
    assert not torch.allclose(edited[~outside], pictures.images[~outside], atol=0.05)
    assert torch.equal(edited, editor(pictures))
    torch.testing.assert_close(editor(pictures[slice(1, 2)]), edited[1:2], atol=1e-4, rtol=0)
    assert not torch.allclose(edited, editor(replace(pictures, round=1)), atol=1e-3)
    assert not torch.allclose(edited[1], editor(replace(pictures, words=["", ""]))[1], atol=1e-5)


def test_the_text_encoder_stays_where_it_sees_the_image(twin, pictures, monkeypatch):
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus as module

    monkeypatch.setattr(module, "VAE_IMAGE_SIZE", 64 * 64)
    monkeypatch.setattr(module, "CONDITION_IMAGE_SIZE", 56 * 56)
    monkeypatch.setattr(loading, "require", lambda *_: None)
    cls, processor = diffusers.QwenImageEditPlusPipeline, QwenProcessor(byte_tokenizer(QWEN_TOKENS))
    original = cls.from_pretrained
    monkeypatch.setattr(
        cls, "from_pretrained", lambda *args, **options: original(*args, processor=processor, **options)
    )
    editor = load(twin("QwenImageEditPlusPipeline"))
    edited = editor(replace(pictures, masks=None))
    assert edited.shape == pictures.images.shape
    assert processor.seen == 2 * 2  # prompt and negative prompt of each view
    assert editor.network.pipeline.text_encoder is not None
    assert editor.network.counters.network_calls == 2 * 2 * 2
    other = editor(replace(pictures, masks=None, sources=1 - pictures.sources))
    assert not torch.allclose(edited, other, atol=1e-4)


def test_a_text_to_image_model_gets_its_image_to_image_form(pictures):
    editor = load(REPOSITORY / "data" / "tiny-ldm", num_inference_steps=10)
    assert editor.facts["pipeline"] == "StableDiffusionImg2ImgPipeline"
    flat = pictures.images.mean((2, 3), keepdim=True).expand(-1, -1, 66, 78)
    whole = replace(pictures, masks=None, images=flat)
    change = [float((editor(replace(whole, strength=s)) - whole.images).abs().mean()) for s in (0.1, 0.9)]
    assert change[0] < change[1]
    assert load(REPOSITORY / "data" / "tiny-ip2p").facts["pipeline"] == "StableDiffusionInstructPix2PixPipeline"


def test_what_a_pipeline_starts_from(twin, pictures):
    """One without strength reads the views before any edit, one with it the views as they are."""
    whole = replace(pictures, masks=None)
    kontext = load(twin("FluxKontextPipeline"))
    edited = kontext(whole)
    assert torch.equal(edited, kontext(replace(whole, images=1 - whole.images, strength=1.0)))
    assert not torch.allclose(edited, kontext(replace(whole, sources=1 - whole.sources)), atol=1e-4)
    start = load(twin("ZImageImg2ImgPipeline"))
    edited = start(whole)
    assert torch.equal(edited, start(replace(whole, sources=1 - whole.sources)))
    assert not torch.allclose(edited, start(replace(whole, images=1 - whole.images)), atol=1e-4)


def test_a_small_strength_still_makes_a_step(twin, pictures):
    editor = load(twin("ZImageImg2ImgPipeline"), num_inference_steps=None)
    editor(replace(pictures, strength=0.05))
    assert editor.network.counters.network_calls == 1


def test_an_instruction_is_read_by_the_class_of_the_model(twin):
    def reads(model, **options):
        return Pipeline(**options).reads_instruction_of(EditorKeys(model=str(model)))

    assert reads(twin("Flux2KleinPipeline"))
    assert not reads(REPOSITORY / "data" / "tiny-ldm")
    assert reads(REPOSITORY / "data" / "tiny-ip2p")
    assert reads(REPOSITORY / "data" / "tiny-ldm", pipeline="StableDiffusionInstructPix2PixPipeline")


def test_sizes():
    assert fitting_sides((66, 78), 16, 1) == (64, 80)
    assert fitting_sides((32, 48), 16, 64) == (64, 96)
    assert fitting_sides((5, 5), 8, 1) == (8, 8)


def refused(message, error=ConfigError, model=REPOSITORY / "data" / "tiny-ldm", **options):
    with pytest.raises(error, match=message):
        load(model, **options)


def test_what_a_class_cannot_do_is_said_by_name(twin):
    refused(
        r"editor.image_guidance_scale is 2.0, and Flux2KleinPipeline takes none; expected it left out",
        model=twin("Flux2KleinPipeline"), image_guidance_scale=2,
    )  # fmt: skip
    refused(r"pipeline is StableDiffusionPipeline, which takes no image", pipeline="StableDiffusionPipeline")
    refused(
        r"asks for FluxNinePipeline, which diffusers .* does not have; expected one of Flux2",
        pipeline="FluxNinePipeline",
    )
    refused(r"guidance_scale is -1", guidance_scale=-1)
    refused(r"num_inference_steps is 0; expected at least 1", num_inference_steps=0)
    refused(r"num_inference_steps is 'four'; expected a number", num_inference_steps="four")


def test_keys_of_our_own_backbone_are_refused():
    keys = EditorKeys(model=str(REPOSITORY / "data" / "tiny-ldm"), editor={"name": "pipeline"}, vae="taesd")
    with pytest.raises(ConfigError, match=r"system.editing.vae is taesd, which the editor pipeline does not read"):
        load_editor(keys, CPU, PROMPTS)


def test_a_model_that_cannot_be_read(tmp_path, twin):
    refused(r"system.editing.model .* holds no model_index.json", model=tmp_path)
    broken = shutil.copytree(twin("FluxKontextPipeline"), tmp_path / "broken")
    (broken / "transformer" / "config.json").unlink()
    refused(r"system.editing.model .*broken' cannot be read", model=broken)
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxNinePipeline"}))
    refused(r"system.editing.model asks for FluxNinePipeline", model=broken)


@pytest.mark.parametrize("entry", [["a_module_beside", "Network"], ["os", "path"], ["diffusers", 1]])
def test_a_part_of_another_library_is_refused_and_not_imported(tmp_path, twin, monkeypatch, entry):
    folder = shutil.copytree(twin("FluxKontextPipeline"), tmp_path / "foreign")
    (folder / "a_module_beside.py").write_text("class Network: pass")
    monkeypatch.syspath_prepend(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"transformer": entry}))
    refused(rf"part 'transformer' .*cannot be read \(model_index.json says {entry[0]}.{entry[1]}\)", model=folder)
    assert "a_module_beside" not in sys.modules


@pytest.mark.parametrize(
    "name", ["a_module_beside", "pipeline", "ModelMixin", "AutoencoderKL", ["a_module_beside", "P"]]
)
def test_a_pipeline_that_is_no_class_of_diffusers_is_refused(tmp_path, twin, name):
    """Also where the folder holds a file of that name, as those with code of their own do."""
    folder = shutil.copytree(twin("FluxKontextPipeline"), tmp_path / "foreign")
    (folder / "a_module_beside.py").write_text("raise SystemExit")
    (folder / "pipeline.py").write_text("raise SystemExit")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": name}))
    refused(r"system.editing.model asks for .*, which diffusers .* does not have", model=folder)


def test_a_package_that_is_missing(monkeypatch):
    find = importlib.util.find_spec
    absent = ("bitsandbytes", "torchao", "torchvision")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    for quantization, package in (("bnb-4bit", "bitsandbytes"), ("torchao-int8", "torchao")):
        message = rf"editor.quantization={quantization} needs the package {package}; .*pip install {package}"
        refused(message, MissingPackageError, quantization=quantization)
    refused(r"quantization is 'int3'; expected one of none, bnb-8bit, .*, or a .gguf file", quantization="int3")
    refused(r"quantization is 'nothing.gguf'", quantization="nothing.gguf")
    message = r"QwenImageEditPlusPipeline needs the package torchvision; .*pip install torchvision"
    refused(message, MissingPackageError, pipeline="QwenImageEditPlusPipeline")


INDEX = {
    "transformer": ["diffusers", "Flux2Transformer2DModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@pytest.mark.parametrize(
    ("quantization", "backend", "kwargs"),
    [
        ("bnb-8bit", "bitsandbytes_8bit", {"load_in_8bit": True}),
        (
            "bnb-4bit", "bitsandbytes_4bit",
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
        ),
        ("torchao-int8", "torchao", {"quant_type": "int8"}),
    ],
)  # fmt: skip
def test_a_quantisation_is_one_of_diffusers(monkeypatch, quantization, backend, kwargs):
    monkeypatch.setattr(diffusers, "PipelineQuantizationConfig", lambda **options: options)
    package, kinds = types.ModuleType("torchao"), types.ModuleType("torchao.quantization")
    kinds.Int8WeightOnlyConfig, package.quantization = lambda: "int8", kinds
    monkeypatch.setitem(sys.modules, "torchao", package)
    monkeypatch.setitem(sys.modules, "torchao.quantization", kinds)
    options = loading.quantized(quantization, INDEX, ModelLocation("m", loading.PIPELINE), torch.bfloat16)
    assert options["quantization_config"] == {
        "quant_backend": backend, "quant_kwargs": kwargs, "components_to_quantize": ["transformer", "text_encoder_2"],
    }  # fmt: skip


def test_a_gguf_file_is_the_network(monkeypatch, tmp_path):
    asked = {}

    def read(path, **options):
        asked.update(options, path=path)
        return "network"

    monkeypatch.setattr(diffusers.Flux2Transformer2DModel, "from_single_file", read)
    monkeypatch.setattr(diffusers, "GGUFQuantizationConfig", lambda **options: options)
    options = loading.quantized("a.gguf", INDEX, ModelLocation("m", loading.PIPELINE), torch.bfloat16)
    assert options == {"transformer": "network"}
    assert asked == {
        "path": "a.gguf", "quantization_config": {"compute_dtype": torch.bfloat16}, "config": "m",
        "subfolder": "transformer", "dtype": torch.bfloat16,
    }  # fmt: skip


def written(network, path, left_out=""):
    """The file of a network with other weights, under their original names; the weights by the names of diffusers."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    weights = {name: weight.contiguous().clone() for name, weight in original_names.flux(network).items()}
    save_file({name: weight for name, weight in weights.items() if name != left_out}, path)
    return network.state_dict()


def test_a_single_file_is_the_network(tmp_path, twin, pictures):
    """FLUX.2 comes as one: the network is read from the file by the model's config, the other parts from the model."""
    folder, file = twin("Flux2KleinPipeline"), tmp_path / "flux2.safetensors"
    weights = written(diffusers.Flux2Transformer2DModel.from_pretrained(folder, subfolder="transformer"), file)
    editor = load(folder, network=str(file))
    got = editor.network.pipeline.transformer.state_dict()
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], weight) for name, weight in weights.items())
    assert editor.facts["network"] == str(file)
    assert not torch.allclose(editor(pictures), load(folder)(pictures), atol=1e-3)
    refused(r"editor.network is no.safetensors; expected a .safetensors file", network="no.safetensors")


def test_a_single_file_that_is_not_whole(tmp_path, twin):
    folder, file = twin("Flux2KleinPipeline"), tmp_path / "flux2.safetensors"
    network = diffusers.Flux2Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    written(network, file, left_out="single_blocks.0.linear2.weight")
    with pytest.raises(ConfigError, match="part 'transformer' of .* cannot be read"):
        load(folder, network=str(file))


@pytest.mark.slow
def test_a_single_file_of_flux_1(tmp_path, twin):
    """diffusers cuts its matrices at the published width alone, so that one block of each kind has 0.5 G weights."""
    folder, file = tmp_path / "flux", tmp_path / "flux.safetensors"
    shutil.copytree(twin("FluxKontextPipeline"), folder)
    config = diffusers.FluxTransformer2DModel.load_config(folder, subfolder="transformer")
    config |= {"num_attention_heads": 24, "attention_head_dim": 128, "axes_dims_rope": (16, 56, 56)}
    with torch.device("meta"):
        network = diffusers.FluxTransformer2DModel.from_config(config)
    network.to_empty(device="cpu").bfloat16()
    weights = written(network, file)
    shutil.rmtree(folder / "transformer")
    network.save_config(folder / "transformer")
    keys = EditorKeys(model=str(folder), dtype="bf16", editor={"name": "pipeline", "network": str(file)})
    got = load_editor(keys, CPU, PROMPTS, ()).network.pipeline.transformer.state_dict()
    assert got.keys() == weights.keys()
    assert all(torch.equal(got[name], weight) for name, weight in weights.items())


def test_offload_is_one_call():
    calls = []

    class Recorder:
        def __getattr__(self, name):
            return lambda *args, **options: calls.append((name, args, options))

    device = torch.device("cuda:0")
    for offload in ("none", "model", "sequential", "group"):
        loading.place(Recorder(), device, offload)
    assert [name for name, _, _ in calls] == [
        "to", "enable_model_cpu_offload", "enable_sequential_cpu_offload", "enable_group_offload",
    ]  # fmt: skip
    for name, _, options in calls[1:]:
        assert hasattr(diffusers.DiffusionPipeline, name)
        assert device in options.values()
    refused(r"editor.offload is model, and there is no GPU to offload from; .*offload=none", offload="model")
    with pytest.raises(ConfigError, match=r"offload is 'models'; expected one of none, model, sequential, group"):
        build_editor({"name": "pipeline", "offload": "models"})


def test_loras_tiles_and_compiling(tmp_path):
    lora = tmp_path / "few-steps.safetensors"
    lora.write_bytes(b"")
    calls = []
    pipeline = SimpleNamespace(
        load_lora_weights=lambda path, adapter_name: calls.append((path, adapter_name)),
        set_adapters=lambda names, adapter_weights: calls.append((names, adapter_weights)),
        vae=SimpleNamespace(enable_tiling=lambda: calls.append("tiles")),
    )
    loading.adapt(pipeline, EditorKeys(lora=[f"{lora}:0.5"], vae_tiling=True))
    assert calls == [(str(lora), "lora0"), (["lora0"], [0.5]), "tiles"]


def test_every_listed_class_is_one_of_diffusers_and_takes_what_it_is_given():
    for name, form in loading.FORMS.items():
        arguments = loading.call_arguments(getattr(diffusers, name))
        assert "image" in arguments
        assert set(form.usual) <= arguments, name
        assert {"generator", "output_type", "num_inference_steps"} <= arguments
