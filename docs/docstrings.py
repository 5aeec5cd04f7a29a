"""Form docstrings for the API page: sections that Keras's layers have, and what bases say."""

import re
import textwrap

import griffe

# Sections of our docstrings beside those that mkdocstrings knows.
SECTION = re.compile(
    r"^(Call arguments|Input and output shape|Shapes):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE
)
# Several arguments or attributes that are said to be the same.
GROUP = re.compile(
    r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*\n(?: {8}.*\n)*)",
    re.MULTILINE,
)
ITEM = re.compile(r"^`?(\w+)`?: ", re.MULTILINE)
LABEL = re.compile(r"^(Example|Reference):", re.MULTILINE)
CALLS = ("call", "__call__", "update_state")


class Sections(griffe.Extension):
    """An extension of griffe, which reads the package for mkdocstrings."""

    def on_package(self, *, pkg, **_):
        """Change the docstrings of all classes and functions."""
        found = [x for x in objects(pkg) if x.docstring]
        # A class takes the text of its base as it stands in the code.
        texts = {x.path: joined(x) if x.is_class else x.docstring.value for x in found}
        for x in found:
            x.docstring.value = formed(texts[x.path], call_of(x) if x.is_class else None)


def objects(parent):
    """Yield all that is defined in a package, a module or a class."""
    for member in parent.members.values():
        if not member.is_alias:
            yield member
            yield from objects(member)


def base_of(cls):
    """Return the base that documents the arguments of a class which does not, or `None`."""
    if "__init__" in cls.members or "Args:\n" in cls.docstring.value:
        return None
    bases = (base for base in cls.mro() if base.docstring)
    return next((base for base in bases if "Args:\n" in base.docstring.value), None)


def joined(cls):
    """Return the docstring of a class, with what its base says after the summary."""
    base = base_of(cls)
    if base is None:
        return cls.docstring.value
    own, end = split(cls.docstring.value)
    shared = split(base.docstring.value)[0].partition("\n\n")[2]
    return "\n\n".join(part.strip() for part in (own, shared, end) if part.strip())


def split(text):
    """Return what comes before the example or the reference, and these."""
    end = LABEL.search(text)
    return (text[: end.start()], text[end.start() :]) if end else (text, "")


def call_of(cls):
    """Return the parameters with which an instance of a class is called, name -> parameter."""
    for owner in (cls, *cls.mro()):
        for name in CALLS:
            method = owner.members.get(name)
            if method is not None and method.is_function:
                return {parameter.name: parameter for parameter in method.parameters}
    return {}


def formed(text, call):
    """Return a docstring with its sections as Markdown that looks like the others."""

    def section(match):
        body = textwrap.dedent(match[2]).strip()
        if ITEM.match(body):
            _, *parts = ITEM.split(body)
            items = zip(parts[::2], parts[1::2])
            body = "\n".join(item(name, said, (call or {}).get(name)) for name, said in items)
        return f"**{match[1]}:**\n\n{body}\n\n"

    def one_by_one(match):
        return "".join(f"    {name}: {match[2]}" for name in match[1].split(", "))

    text = SECTION.sub(section, GROUP.sub(one_by_one, text + "\n"))
    return LABEL.sub(r"**\1:**", text).rstrip()


def item(name, said, parameter):
    """Return the item of a list for an argument, with its type and default if these are known."""
    known = ""
    if parameter is not None and parameter.annotation is not None:
        default = f", default: `{parameter.default}`" if parameter.default is not None else ""
        known = f" (`{parameter.annotation}`{default})"
    return f"- **`{name}`**{known} &ndash; {' '.join(said.split())}"
