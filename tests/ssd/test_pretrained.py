"""Short names, folders and hub ids: aliases, commits, offline use, one message for each way a model cannot be had."""

import shutil
import socket
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from threestudio_ssd.diffusion import load_backbone
from threestudio_ssd.diffusion.models import MODEL
from threestudio_ssd.edits.inpaint import load_inpainter
from threestudio_ssd.errors import ConfigError, MissingPackageError, SceneFormatError
from threestudio_ssd.masks.text import load_segmenter
from threestudio_ssd.metrics import load_structure_model, read_clip
from threestudio_ssd.pretrained import ALIASES, DATA, ModelLocation, ModelUse, locate

EXPECTED = (
    "a folder in diffusers layout, a .safetensors checkpoint, or a hub id such as "
    "stable-diffusion-v1-5/stable-diffusion-v1-5"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _no_hub_to_list(monkeypatch):
    """Nobody answers, and says so at once."""

    def refuse(*args, **more):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)


@pytest.fixture
def warnings_seen(monkeypatch):
    """The texts passed to threestudio.warn."""
    import threestudio

    seen = []
    monkeypatch.setattr(threestudio, "warn", seen.append)
    return seen


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers every request with one commit, or raises `hub.error`; it keeps the ids asked for."""

    class Hub:
        error = None
        asked = []

        def download(self, repo_id, filename, *, revision, local_files_only):
            self.asked.append((repo_id, filename, revision, local_files_only))
            if self.error is not None:
                raise self.error
            return f"/cache/models--{repo_id.replace('/', '--')}/snapshots/{COMMIT}/{filename}"

    hub = Hub()
    hub.asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)
    return hub


def response(kind):
    return kind("no", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize("name", ["stable-diffusion-2", "stable-diffusion-2-1", "stable-diffusion-2-1-base"])
def test_withdrawn_models_resolve_to_their_successors_with_a_warning(hub, warnings_seen, name):
    assert locate(f"stabilityai/{name}", MODEL) == ModelLocation(f"sd2-community/{name}", MODEL, COMMIT)
    assert warnings_seen == [
        f"model 'stabilityai/{name}' was withdrawn from the hub; using 'sd2-community/{name}' in its place."
    ]
    assert hub.asked == [(f"sd2-community/{name}", "model_index.json", None, False)]


def test_no_alias_leads_to_another():
    assert not set(ALIASES) & set(ALIASES.values())


def test_other_ids_stay_and_the_revision_is_pinned(hub, warnings_seen):
    location = locate("owner/name", MODEL, revision="v2", is_offline=True)
    assert location == ModelLocation("owner/name", MODEL, COMMIT, is_offline=True)
    assert location.options == {"revision": COMMIT, "local_files_only": True}
    assert hub.asked == [("owner/name", "model_index.json", "v2", True)]
    assert warnings_seen == []


def test_a_folder_stays_a_folder(hub, tmp_path):
    assert locate(tmp_path, MODEL, revision="v2") == ModelLocation(str(tmp_path), MODEL)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("error", "offline", "kind", "message"),
    [
        (
            response(errors.RepositoryNotFoundError),
            False,
            ConfigError,
            f"model 'o/n' is neither a folder here nor a public model on the hub; expected {EXPECTED}; "
            "correct model=, or log in with 'hf auth login' if it is private",
        ),
        (
            response(errors.GatedRepoError),
            False,
            ConfigError,
            "model 'o/n' is gated on the hub; expected a model whose licence you have accepted; "
            "accept it at https://huggingface.co/o/n, then run: hf auth login",
        ),
        (
            response(errors.RevisionNotFoundError),
            False,
            ConfigError,
            "model 'o/n' has no revision 'v9'; expected a branch, tag or commit of that repository; "
            "correct revision=, or leave it out for the newest",
        ),
        (
            response(errors.RemoteEntryNotFoundError),
            False,
            SceneFormatError,
            f"model 'o/n' on the hub has no model_index.json; expected {EXPECTED}; choose a repository that has one",
        ),
        (
            errors.LocalEntryNotFoundError("not cached"),
            True,
            ConfigError,
            "model 'o/n' cannot be fetched: it is not in the local cache (offline); "
            "expected a model that is in the cache, on the hub, or in a folder; "
            "set model to a local folder, or download it once while online (hf download o/n)",
        ),
        (
            errors.LocalEntryNotFoundError("no connection"),
            False,
            ConfigError,
            "model 'o/n' cannot be fetched: the hub cannot be reached; "
            "expected a model that is in the cache, on the hub, or in a folder; "
            "set model to a local folder, or download it once while online (hf download o/n)",
        ),
    ],
)
def test_each_failure_of_the_hub_has_its_message(hub, error, offline, kind, message):
    hub.error = error
    with pytest.raises(kind) as caught:
        locate("o/n", MODEL, revision="v9", is_offline=offline)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "a/b/c", "missing", "~/missing", "..\\models\\x"])
def test_a_missing_folder_is_not_asked_for_on_the_hub(hub, name):
    with pytest.raises(ConfigError) as caught:
        locate(name, MODEL)
    assert caught.value.what.endswith("' does not exist")
    assert caught.value.expected == EXPECTED
    assert caught.value.fix == "correct the path in model=, or leave the key out for the embedded model"
    assert hub.asked == []


def test_a_misspelt_folder_inside_an_existing_one_is_a_missing_folder(hub, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="model folder 'data/tiny-ldn' does not exist"):
        locate("data/tiny-ldn", MODEL)


def test_no_model_at_all(hub):
    with pytest.raises(ConfigError) as caught:
        locate("", MODEL)
    assert caught.value.what == "model is empty"


def test_a_single_file_of_another_format_is_not_a_model(hub, tmp_path):
    path = tmp_path / "model.ckpt"
    path.touch()
    with pytest.raises(SceneFormatError) as caught:
        locate(path, MODEL)
    assert str(caught.value) == (
        f"model '{path}' is a single file; expected {EXPECTED}; "
        "convert it with diffusers (from_single_file, save_pretrained) and set model to that folder"
    )


CLIP = ModelUse(key="clip_model")


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-clip/", "data/tiny-clip"])
def test_shipped_models_are_there_wherever_one_stands(hub, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert locate(name, CLIP) == ModelLocation(str(DATA / "tiny-clip"), CLIP)
    (tmp_path / "data" / "tiny-clip").mkdir(parents=True)
    assert locate(name, CLIP).location == "data/tiny-clip"  # one's own comes first
    assert hub.asked == []


def test_a_folder_comes_before_a_short_name(hub, tmp_path, monkeypatch):
    (tmp_path / "sam3").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("sam3", CLIP).location == "sam3"
    assert locate("clipseg", CLIP).location == "CIDAS/clipseg-rd64-refined"
    assert hub.asked == [("CIDAS/clipseg-rd64-refined", "config.json", None, False)]


def test_a_shipped_folder_that_is_gone_is_to_be_restored(hub, tmp_path, monkeypatch):
    from threestudio_ssd import pretrained

    monkeypatch.setattr(pretrained, "REPOSITORY", tmp_path)
    monkeypatch.setenv("THREESTUDIO_SSD_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        locate("tiny-clip", CLIP)
    assert str(caught.value) == (
        f"clip_model folder 'data/tiny-clip' does not exist; expected {CLIP.expected}; "
        "restore data/ from the repository, or run `make models`"
    )


def test_the_usual_advice_names_the_key(hub):
    with pytest.raises(ConfigError) as caught:
        locate("./nowhere", CLIP)
    assert str(caught.value) == (
        f"clip_model folder './nowhere' does not exist; expected {CLIP.expected}; "
        "correct the path in clip_model=, or give a hub id"
    )


def raising(error):
    def load(location, **options):
        raise error

    return load


def test_parts_that_cannot_be_read_are_named_with_the_key():
    location = ModelLocation("owner/name", CLIP)
    for part, name in ((None, "clip_model 'owner/name'"), ("unet", "part 'unet' of clip_model 'owner/name'")):
        with pytest.raises(ConfigError) as caught:
            location.read(raising(OSError("no file\nsecond line")), part)
        assert str(caught.value) == (
            f"{name} cannot be read (OSError: no file); expected {CLIP.layout}; "
            "copy or download the model again, or point clip_model= at a complete one"
        )


@pytest.mark.parametrize(
    "error",
    [ImportError("Sam3Model requires the torchvision library"), ModuleNotFoundError("No module", name="torchvision")],
)
def test_a_missing_package_is_named(error):
    with pytest.raises(MissingPackageError) as caught:
        ModelLocation("facebook/sam3", ModelUse("mask.segmenter")).read(raising(error))
    assert str(caught.value) == (
        "mask.segmenter 'facebook/sam3' needs torchvision; expected it installed; pip install torchvision"
    )
    with pytest.raises(ConfigError, match="cannot be read"):
        ModelLocation("facebook/sam3", CLIP).read(raising(ImportError("something else")))


def test_missing_weights_are_an_error():
    location = ModelLocation("owner/name", CLIP)
    network, asked = object(), {}

    def load(name, **options):
        asked.update(options)
        return network, {"missing_keys": missing}

    missing = set()
    assert location.read_network(load, "unet", dtype="x") is network
    assert asked == {
        "revision": None, "local_files_only": False, "subfolder": "unet", "output_loading_info": True, "dtype": "x",
    }  # fmt: skip
    missing = {"b.weight", "a.weight"}
    with pytest.raises(ConfigError, match=r"cannot be read \(2 weights are missing, a.weight first\)"):
        location.read_network(load)


# -- every model: offline means no network, and a revision reaches whatever reads the parts -------------------


def put_random_model(folder):
    from threestudio_ssd.diffusion.models import save_components
    from threestudio_ssd.diffusion.random import random_components

    save_components(random_components(), folder)


def put_random_vae(folder):
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    ).save_pretrained(folder)  # fmt: skip


def load_vae(name, **where):
    """The key of the VAE has no revision: its own commit is pinned."""
    return load_backbone(DATA / "tiny-ldm", vae=name, offline=where["offline"])


def load_pipeline(name, offline, revision):
    cpu = torch.device("cpu")
    options = {"model": "", "prompt": "", "num_steps": 1, "guidance_scale": 1.0, "seed": 0, "device": cpu}
    return load_inpainter(name, **options, is_offline=offline, revision=revision)


def load_segmenter_at(name, offline, revision):
    return load_segmenter(name, is_offline=offline, revision=revision)


def put(name):
    return lambda folder: shutil.copytree(DATA / name, folder, dirs_exist_ok=True)


EVERY_MODEL = {
    "segmenter": (put("tiny-seg"), load_segmenter_at),
    "clip": (put("tiny-clip"), lambda name, **where: read_clip(name, "cpu", **where)),
    "structure": (put("tiny-clip"), load_structure_model),
    "inpainter": (put_random_model, load_pipeline),
    "vae": (put_random_vae, load_vae),
    "diffusion": (put_random_model, load_backbone),
}


@pytest.fixture
def loads(monkeypatch):
    """Whatever is asked of the hub or of a loader: the repository, its revision and whether it is offline."""
    seen = []

    def spied(function):
        def spy(*args, **options):
            name = next(each for each in args if isinstance(each, str))
            if name == "owner/name":
                seen.append((options.get("revision"), options.get("local_files_only")))
            return function(*args, **options)

        return spy

    read = ModelLocation.read
    monkeypatch.setattr(ModelLocation, "read", lambda self, load, *args, **more: read(self, spied(load), *args, **more))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", spied(huggingface_hub.hf_hub_download))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("the network is asked"))
    return seen


@pytest.mark.parametrize("kind", EVERY_MODEL)
def test_offline_asks_no_network_and_a_revision_reaches_every_loader(kind, hub_cache, loads, tmp_path):
    make, load = EVERY_MODEL[kind]
    (tmp_path / "model").mkdir()
    make(tmp_path / "model")
    commit = hub_cache("owner/name", tmp_path / "model")
    revision = None if kind == "vae" else "v2"
    if revision:  # only this branch has the model
        refs = tmp_path / "hub-cache" / "models--owner--name" / "refs"
        (refs / "main").rename(refs / "v2")
    load("owner/name", offline=True, revision=revision)
    asked, *rest = loads
    assert asked == (revision, True)
    assert rest
    assert set(rest) == {(commit, True)}


@pytest.mark.parametrize("kind", EVERY_MODEL)
def test_what_is_not_in_the_cache_is_named_offline(kind, hub_cache, loads):
    with pytest.raises(ConfigError) as caught:
        EVERY_MODEL[kind][1]("owner/name", offline=True, revision=None)
    key = {
        "segmenter": "mask.segmenter", "clip": "clip_model", "structure": "structure_model",
        "inpainter": "system.inpainter", "vae": "vae", "diffusion": "model",
    }[kind]  # fmt: skip
    assert str(caught.value) == (
        f"{key} 'owner/name' cannot be fetched: it is not in the local cache (offline); "
        "expected a model that is in the cache, on the hub, or in a folder; "
        f"set {key} to a local folder, or download it once while online (hf download owner/name)"
    )


def test_two_models_have_two_revisions(hub):
    with pytest.raises(ConfigError) as caught:
        load_segmenter("grounded-sam2", revision="v1")
    assert str(caught.value) == (
        "mask.revision is v1, but mask.segmenter grounded-sam2 names two models; expected two revisions joined by a "
        "plus, either of which may be empty; set mask.revision=v1+"
    )
    assert hub.asked == []
