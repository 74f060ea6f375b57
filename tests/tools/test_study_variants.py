"""A study's variants: what may be changed of them, and what the study sets itself."""

import pytest

from inspire_d2.errors import InputError
from tools.study_variants import VARIANTS, defined, overridden


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed=5", "one of --seeds"),
        ("train={log_period: 3, seed: 5}", "one of --seeds"),
        ("train.output_dir=x", "in that of --output"),
        ("dataloader.test.dataset.json_file=x", "the centre that it holds out"),
        ("dataloader.train={dataset: {json_file: x}}", "the centre that it holds out"),
    ],
)
def test_what_tells_runs_apart_is_the_studys(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overridden(VARIANTS, [override])
    with pytest.raises(InputError, match=message):
        overridden(VARIANTS | defined([["mine", "steps1", override]]), [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_iter=7", "--iterations"),
        ("train={max_iter:7}", "--iterations"),
        ("train.init_checkpoint=x", "--weights"),
    ],
)
def test_one_length_for_all_variants_is_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overridden(VARIANTS, [override])
    one = overridden(VARIANTS | defined([["mine", "plain", override]]), [])["mine"]
    assert one.overrides == (override,)


def test_what_is_of_no_run_reaches_every_variant() -> None:
    overrides = ["train={log_period: 3}", "dataloader.train.dataset.filter_empty=False"]
    for name, variant in overridden(VARIANTS, overrides).items():
        assert variant.overrides == (*VARIANTS[name].overrides, *overrides)
