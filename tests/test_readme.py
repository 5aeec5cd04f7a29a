"""What README and docs/ show: their Python runs, their links, commands and tables are right."""

import importlib.util
import json
import pathlib
import re

import pytest

import tfnode

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES}
BLOCKS = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.M))
]
pages = pytest.mark.parametrize("name", TEXTS)


@pytest.mark.parametrize("block", BLOCKS)
def test_example(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Functions of a script, whose source AutoGraph reads, are in a file.
    path = tmp_path / "example.py"
    path.write_text(block)
    names = {"__name__": "__main__"}
    exec(compile(block, str(path), "exec"), names)
    assert len(names) > 2, "an example that defines nothing"  # The other one is of the builtins.


def test_there_are_examples():
    assert len(BLOCKS) >= 6


@pages
def test_links(name):
    """Links into the repository lead to a file, and to a heading of it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            # Those of the API are the names of what it lists.
            text = _api_page().on_page_markdown(target.read_text())
            headings = re.findall(r"^#+ (.*)$", text, re.M) + re.findall(r'id="(.*)"', text)
            slugs = {re.sub(r"[^\w -]", "", x).strip().lower().replace(" ", "-") for x in headings}
            assert anchor in slugs.union(headings), link


def test_api_has_all_public_names():
    text = _api_page().on_page_markdown(TEXTS["docs/api.md"])
    listed = re.findall(r"^::: (\S+)$", text, re.M)
    for package in (tfnode, *(getattr(tfnode, name) for name in ("layers", "models", "callbacks"))):
        for value in (getattr(package, name) for name in package.__all__):
            if hasattr(value, "__qualname__"):
                assert f"{value.__module__}.{value.__qualname__}" in listed
    assert len(listed) == len(set(listed))


def test_api_has_no_other_names():
    """Each name can be had by the path that its heading shows; bases of layers are no names."""
    page = _api_page()
    text = page.sections()
    headings = re.findall(r"options: {heading: ([\w.]+),", text)
    assert len(headings) > 60
    for heading in headings:
        module, name = heading.split(".")[1:-1], heading.split(".")[-1]
        assert name in page.public(getattr(tfnode, *module) if module else tfnode), heading
    assert "SeriesRNN" not in text and "CountsPasses" not in text


def test_sections_of_docstrings_on_the_api_page():
    griffe = pytest.importorskip("griffe")
    extensions = griffe.load_extensions(_page_module("docstrings").Sections)
    package = griffe.load("tfnode", search_paths=[ROOT], extensions=extensions)
    text = package["layers.ode_rnn.ODERNN"].docstring.value
    assert "**Call arguments:**\n\n- **`values`** (`Any`) &ndash; `(batch, n, channels)`." in text
    assert "**Input and output shape:**\n\n`(batch, n, channels)` to" in text
    # A class without arguments of its own has those of its base, before its own reference.
    text = package["solvers.methods.embedded.Tsit5"].docstring.value
    assert text.startswith("Tsitouras") and "**Reference:** Tsitouras" in text
    assert text.index("at_min_step:") < text.index("**Reference:**")


@pytest.mark.parametrize(
    "remote",
    [
        "https://example.org/owner/tfnode.git",
        "https://name:secret@example.org/owner/tfnode",
        "git@example.org:owner/tfnode.git",
        "ssh://git@example.org/owner/tfnode.git",
    ],
)
def test_the_repository_of_a_remote(remote):
    pytest.importorskip("latex2mathml")
    found = _page_module("hooks").repository(remote)
    assert found == ("https://example.org/owner/tfnode", "owner/tfnode")


@pytest.mark.parametrize("remote", ["", "/folder/tfnode", "../tfnode.git", "file:///folder/tfnode"])
def test_a_local_remote_is_no_repository(remote):
    pytest.importorskip("latex2mathml")
    assert _page_module("hooks").repository(remote) == (None, None)


@pytest.mark.parametrize(
    ("equation", "found"),
    [
        (r"a \sin x", '<mo lspace="0.17em" rspace="0.17em">sin</mo>'),
        (r"a = \log(x)", '<mo lspace="0" rspace="0">log</mo>'),
        (r"x \sim N", "<mo>&#x0223C;</mo>"),
        (r"\dot h", '<mover accent="true"><mi>h</mi>'),
        (r"a = -b", '<mo form="prefix">&#x02212;</mo>'),
    ],
)
def test_equations_have_the_spaces_of_tex(equation, found):
    pytest.importorskip("latex2mathml")
    page = _page_module("hooks").on_page_content(
        rf'<span class="arithmatex">\({equation}\)</span>', None
    )
    assert found in page


def _api_page():
    """Return the module that writes the API page."""
    return _page_module("api")


def _page_module(name):
    """Return a module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"page_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_has_one_name():
    """The navigation, the heading of the page and the links of the overview call it the same."""
    names = re.findall(r"^ +- (.+): (\S+)\.md$", (ROOT / "mkdocs.yml").read_text(), re.M)
    headings = {"Overview": "tfnode"}
    for name, page in names:
        path = ROOT / "docs" / page
        text = path.with_suffix(".md" if path.with_suffix(".md").exists() else ".py").read_text()
        heading = re.search(r"^(?:# )?# ([^%].*)$", text, re.M)[1]
        assert heading == headings.get(name, name)
    links = re.findall(r"\[(.+?)\]\(([\w/]+)\.(?:md|py)\)", TEXTS["docs/index.md"])
    assert len(links) > 10 and set(links) <= set(names)


@pages
def test_commands(name):
    """What a command runs is there."""
    text = TEXTS[name]
    for module in re.findall(r"python -m (tfnode[\w.]*\w)", text):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
    for script in re.findall(r"python (\w[\w/]*\.py)", text):
        assert (ROOT / script).is_file(), script
    for model in re.findall(r"train\.py --model=(\w+)", text):
        assert (ROOT / "configs" / f"{model}.py").is_file(), model


@pages
def test_tables(name):
    """A table that says where it is from has the rows that stand there.

    That is a comment before it: `<!-- rows of logs/reference/benchmarks/memory.md -->`.
    """
    found = re.findall(r"^<!-- rows of (\S+) -->\n((?:\|.*\n)+)", TEXTS[name], re.M)
    for source, table in found:
        rows = {_cells(row) for row in (ROOT / source).read_text().splitlines()}
        for row in table.splitlines():
            if not set(row) <= set("|-: "):
                assert _cells(row) in rows, row
    assert len(found) == TEXTS[name].count("<!-- rows of")


def _cells(row):
    return tuple(cell.strip() for cell in row.strip().strip("|").split("|"))


def test_reference_files_are_small():
    """No weights, and no file of more than 1 MB."""
    for path in (ROOT / "logs" / "reference").rglob("*"):
        assert path.suffix not in (".keras", ".h5", ".npz"), path
        assert path.stat().st_size <= 2**20, path
        if path.suffix == ".json":
            json.loads(path.read_text())
