"""The folder of compiled kernels in a place that everybody may write to is this user's alone."""

import os
import stat

import pytest

from threestudio_ssd.rasterizers.compiling import own_folder


def test_it_is_made_for_this_user_alone(tmp_path):
    folder = own_folder(tmp_path, "cache")
    assert folder.name == f"cache-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert own_folder(tmp_path, "cache") == folder


def test_one_that_lets_others_in_or_leads_elsewhere_is_refused(tmp_path):
    folder = own_folder(tmp_path, "cache")
    folder.chmod(0o777)
    with pytest.raises(OSError, match="is not a folder of this user alone"):
        own_folder(tmp_path, "cache")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"link-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is not a folder of this user alone"):
        own_folder(tmp_path, "link")


def test_one_of_somebody_else_is_refused(tmp_path, monkeypatch):
    own_folder(tmp_path, "cache").rename(tmp_path / "cache-12345")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="is not a folder of this user alone"):
        own_folder(tmp_path, "cache")
