"""Short fits, for files of tests that look at scores' ways and not at how good they are."""

from collections.abc import Iterator

import pytest
from short_fits import shorten


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """Decoders and baselines that are hardly fitted, in a whole file."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield
