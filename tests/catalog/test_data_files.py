"""Every file of the catalogue can be loaded and says where its figures come from."""

from typing import get_args

import pytest

from understudy.catalog import known_gpus, known_models, load_gpu, load_model, load_preset
from understudy.catalog.data_files import Kind, known_names, read_entry
from understudy.errors import UsageError

ENTRIES = [(kind, name) for kind in get_args(Kind) for name in known_names(kind)]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_kind_is_empty(kind: Kind) -> None:
    """The package ships its data: models, GPUs and presets are all there."""
    assert known_names(kind)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_an_entry_is_named_as_its_file_and_has_a_source(kind: Kind, name: str) -> None:
    """No figure stands without its source."""
    entry = read_entry(kind, name)
    assert name == entry.text("name")
    assert len(entry.text("source")) > 20


def test_every_model_and_gpu_loads_under_its_name() -> None:
    """What is listed can be loaded, and its source comes with it."""
    for name in known_models():
        model = load_model(name)
        assert (name, read_entry("model", name).text("source")) == (model.name, model.source)
    for name in known_gpus():
        gpu = load_gpu(name)
        assert (name, read_entry("gpu", name).text("source")) == (gpu.name, gpu.source)


def test_every_preset_is_of_a_known_model_and_gpu() -> None:
    """A preset is found by the two names in it, which the catalogue knows."""
    for name in known_names("preset"):
        model, gpu = name.split("--")
        entry = read_entry("preset", name)
        assert (model, gpu) == (entry.text("model"), entry.text("gpu"))
        assert load_preset(load_model(model).name, load_gpu(gpu).name) is not None


@pytest.mark.parametrize("spelling", ["rtx-4090", "RTX-4090", "rtx_4090", "RTX 4090"])
def test_names_may_be_spelt_with_capitals_underscores_and_spaces(spelling: str) -> None:
    """A name need not be spelt as the file is."""
    assert load_gpu(spelling).name == "rtx-4090"


@pytest.mark.parametrize("name", ["h10", "H100-SXM", "h-100"])
def test_an_unknown_gpu_is_refused_with_near_names(name: str) -> None:
    """The error suggests what was meant."""
    with pytest.raises(UsageError, match=r"^unknown gpu .* did you mean .*\bh100\b"):
        load_gpu(name)


def test_names_that_begin_as_given_come_first() -> None:
    """Half a name suggests those that complete it, in any case."""
    with pytest.raises(UsageError, match=r"^unknown gpu 'a100': did you mean a100-40gb, a100-80gb\b"):
        load_gpu("A100")


def test_a_gpu_like_no_other_is_refused_with_all_names() -> None:
    """Where nothing is near, the error lists what there is."""
    with pytest.raises(UsageError) as caught:
        load_gpu("?")
    assert all(name in str(caught.value) for name in known_gpus())


@pytest.mark.parametrize("name", ["../gpus/h100", "", ".", "h100.json", "/etc/passwd"])
def test_a_name_never_leads_out_of_its_folder(name: str) -> None:
    """Names are looked up in the list, not joined to a path."""
    with pytest.raises(UsageError, match=r"^unknown gpu"):
        load_gpu(name)
