"""What tests of pages share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """What a page shows is made, but no file of it, which takes long."""
    monkeypatch.setattr("ibl_mtm.report.page.save_figure", lambda figure, path: "<svg></svg>")
