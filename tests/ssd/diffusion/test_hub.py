"""Hub ids and folders: aliases, commits, and one clear message for each way a model cannot be had."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from threestudio_ssd.diffusion.hub import ALIASES, resolve_model
from threestudio_ssd.errors import ConfigError, SceneFormatError

EXPECTED = "a folder in diffusers layout, or a hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


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
    assert resolve_model(f"stabilityai/{name}") == (f"sd2-community/{name}", COMMIT)
    assert warnings_seen == [
        f"model 'stabilityai/{name}' was withdrawn from the hub; using 'sd2-community/{name}' in its place."
    ]
    assert hub.asked == [(f"sd2-community/{name}", "model_index.json", None, False)]


def test_no_alias_leads_to_another():
    assert not set(ALIASES) & set(ALIASES.values())


def test_other_ids_stay_and_the_revision_is_pinned(hub, warnings_seen):
    assert resolve_model("owner/name", revision="v2", is_offline=True) == ("owner/name", COMMIT)
    assert hub.asked == [("owner/name", "model_index.json", "v2", True)]
    assert warnings_seen == []


def test_a_folder_stays_a_folder(hub, tmp_path):
    assert resolve_model(tmp_path) == (str(tmp_path), None)
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
            f"model 'o/n' on the hub has no model_index.json; expected {EXPECTED}; "
            "choose a repository in diffusers layout",
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
        resolve_model("o/n", revision="v9", is_offline=offline)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "a/b/c", "missing", "~/missing", "..\\models\\x"])
def test_a_missing_folder_is_not_asked_for_on_the_hub(hub, name):
    with pytest.raises(ConfigError) as caught:
        resolve_model(name)
    assert caught.value.what.endswith("' does not exist")
    assert caught.value.expected == EXPECTED
    assert caught.value.fix == "correct the path in model=, or leave the key out for the embedded model"
    assert hub.asked == []


def test_a_misspelt_folder_inside_an_existing_one_is_a_missing_folder(hub, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="model folder 'data/tiny-ldn' does not exist"):
        resolve_model("data/tiny-ldn")


def test_no_model_at_all(hub):
    with pytest.raises(ConfigError) as caught:
        resolve_model("")
    assert caught.value.what == "model is empty"


def test_a_single_file_is_not_a_model(hub, tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(SceneFormatError) as caught:
        resolve_model(path)
    assert str(caught.value) == (
        f"model '{path}' is a single file; expected {EXPECTED}; "
        "convert it with diffusers (from_single_file, save_pretrained) and set model to that folder"
    )
