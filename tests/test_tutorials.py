"""The tutorials run, and their pages have what they print and draw."""

import importlib.util
import io
import pathlib
import re

import pytest
from PIL import Image

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


def test_a_table_becomes_a_gallery(notebooks):
    table = "| you want to | tutorial |\n| --- | --- |\n| draw it | [Draw](tutorials/draw.py) |\n"
    found = notebooks.on_page_markdown(f"<!-- as a gallery -->\n{table}\nThen.\n")
    assert "[![Draw](tutorials/draw-small.png)](tutorials/draw.md)" in found
    assert "[**Draw**](tutorials/draw.md)\n\n    Draw it\n" in found
    assert found.endswith("</div>\n\nThen.\n") and "|" not in found
    assert notebooks.on_page_markdown(table) == table.replace(".py", ".md")


def test_all_tutorials_are_in_the_navigation_and_the_gallery():
    navigation = (ROOT / "mkdocs.yml").read_text()
    start = (ROOT / "docs" / "getting_started.md").read_text()
    for path in SCRIPTS:
        title = re.search(r"^# # (.*)$", path.read_text(encoding="utf-8"), re.M)[1]
        assert f"- {title}: tutorials/{path.stem}.md\n" in navigation
        assert f"[{title}](tutorials/{path.name}) |\n" in start


def test_the_picture_of_a_card_is_small(notebooks):
    with io.BytesIO() as file:
        Image.effect_noise((1040, 520), 50).save(file, "PNG")
        small = notebooks.thumbnail(file.getvalue())
    with Image.open(io.BytesIO(small)) as image:
        assert image.format == "PNG" and image.size == (480, 240)


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_tutorial(path, notebooks):
    """Their own assertions say whether the results are right."""
    text, pictures = notebooks.page(path.stem, path.read_text(encoding="utf-8"))
    assert text.startswith("# ")
    assert 'title="prints"' in text
    assert pictures
