"""The tutorials run, and their pages have what they print and draw."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))


@pytest.fixture(scope="module")
def notebooks():
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_has_text_code_and_results(notebooks):
    source = (
        '"""Not shown."""\n\n# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 2\n'
        "print(x + 40)\n\n# %%\nimport matplotlib.pyplot as plt\n\nplt.plot([x])\n"
    )
    text, pictures = notebooks.page("example", source)
    assert text.startswith("# Title\n\nText.\n\n```python\nx = 2\n")
    assert "\n42\n```" in text and "Not shown" not in text
    assert "(example-1.png)" in text
    assert pictures["example-1.png"].startswith(b"\x89PNG")


def test_a_tutorial_that_fails_stops_the_build(notebooks):
    with pytest.raises(ZeroDivisionError):
        notebooks.page("wrong", "# %%\n1 / 0\n")


def test_links_lead_to_the_pages(notebooks):
    text = "[a](tutorials/cnn.py) [b](../tutorials/cnn.py) [c](cnn.py)"
    found = notebooks.on_page_markdown(text)
    assert found == "[a](tutorials/cnn.md) [b](../tutorials/cnn.md) [c](cnn.py)"


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_tutorial(path, notebooks):
    """Their own assertions say whether the results are right."""
    text, _ = notebooks.page(path.stem, path.read_text(encoding="utf-8"))
    assert text.startswith("# ")
    assert 'title="prints"' in text
