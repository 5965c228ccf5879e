"""What griffe has to be told of our docstrings and packages."""

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """Examples by their plural name; and functions that are called like the module that they are in."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        # By another name their brackets would be taken for links.
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """`compress.top_k` is the function, as for whoever imports it, and not its file."""
        for package in [module for module in pkg.modules.values() if module.is_init_module]:
            for name in map(str, package.exports or ()):
                module = package.members.get(name)
                if isinstance(module, griffe.Module) and name in module.members:
                    package.members[name] = griffe.Alias(name, module[name], parent=package)
