"""Write the API page from the packages, so that no public name can be missing."""

import inspect
import json
import types

MARK = "<!-- the public names -->"
# Bases whose methods the public classes have, and methods that all have.
BASES = ("Path",)
CONFIG = ("get_config", "from_config")


def on_page_markdown(markdown, **_):
    """Replace the mark on the API page by its sections."""
    return markdown.replace(MARK, sections()) if MARK in markdown else markdown


def sections():
    """Return one section for `tfnode` and one for every module in its `__all__`."""
    import tfnode

    parts, done = [], []
    for name, module in {"tfnode": tfnode, **modules(tfnode, "tfnode")}.items():
        intro = inspect.getdoc(module).split("\n\n")[0].replace("\n", " ")
        found = {key: x for key, x in contents(module, name).items() if x not in done}
        done += found.values()
        parts += [f"## {name}", intro, *(entry(key, x) for key, x in found.items())]
    return "\n\n".join(parts)


def modules(package, name):
    """Return the public modules in a package, name -> module, with those in them."""
    found = {}
    for key in public(package):
        value = getattr(package, key)
        if isinstance(value, types.ModuleType):
            found.update({f"{name}.{key}": value, **modules(value, f"{name}.{key}")})
    return found


def contents(module, name):
    """Return the public classes and functions of a module, name -> object."""
    values = {
        f"{name}.{key}": getattr(module, key) for key in sorted(public(module), key=str.lower)
    }
    return {key: x for key, x in values.items() if inspect.isclass(x) or inspect.isfunction(x)}


def public(module):
    """Return the public names of a module: its `__all__`, or the classes it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and inspect.isclass(value)
        and value.__module__ == module.__name__
    ]


def entry(name, value):
    """Return the directive of mkdocstrings for a name; it looks where the object is defined."""
    value = inspect.unwrap(value)
    found = f"{value.__module__}.{value.__qualname__}"
    names = json.dumps(methods(value) if inspect.isclass(value) else [])
    options = f"heading: {name}, members: {names}, inherited_members: {names}"
    return f'<a id="{name}"></a>\n\n::: {found}\n    options: {{{options}}}'


def methods(value):
    """Return the documented methods of a class that are not Keras's, TensorFlow's or Python's."""
    foreign = [base for base in value.__mro__ if not base.__module__.startswith("tfnode.")]
    owners = [value, *(base for base in value.__bases__ if base.__name__ in BASES)]
    return [
        key
        for owner in owners
        for key, member in vars(owner).items()
        if not key.startswith("_")
        and key not in CONFIG
        and callable(getattr(owner, key)) | isinstance(member, property)
        and member.__doc__
        and not any(hasattr(base, key) for base in foreign)
    ]
