"""The structure of the package, read from its source: who imports whom, what is never used, how long modules are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "triode"
MODULES = sorted(PACKAGE.rglob("*.py"))

CHAIN = ("container", "entropy", "models", "codecs")
LEAVES = {"io", "adapters"}
EVERYONE = {"errors", "version"}
# What a part may import besides itself and EVERYONE. "triode" is the package's own __init__, the user's API.
ALLOWED = {
    **{part: set(CHAIN[:place]) for place, part in enumerate(CHAIN)},
    "errors": set(),
    "version": set(),
    "codecs": {"container", "entropy", "models", "media"},
    "media": set(),
    "io": {"media"},
    "adapters": {*CHAIN, "media", "io", "triode"},
    "eval": {*CHAIN, *LEAVES, "media", "triode"},
    "train": {*CHAIN, *LEAVES, "media", "eval", "triode"},
    "cli": {*CHAIN, *LEAVES, "media", "eval", "train", "triode"},
    "__main__": {"cli"},
    "api": {*CHAIN, *LEAVES, "media"},
    "triode": {*CHAIN, *LEAVES, "media", "eval", "api"},
}
CORE = {"constriction", "numpy", "PIL", "safetensors", "torch", "tqdm"}
# Packages beyond the core that a part may import at the top of a module, because nothing loads that part without them.
EAGER = {"train": {"jsonargparse", "lightning"}, "adapters": None}
UNSAFE = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
MAX_LINES = 500


def name_of(path: Path) -> str:
    """Give a module's dotted name, for example `triode.container.header`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Give the part of the package that a dotted name lies in; the package's own __init__ is the part `triode`."""
    return module.split(".")[1] if "." in module else module


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[str, int]]:
    """Yield every import under a node as a dotted name, with its line; `from a import b` yields `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((str(arg.value), node.lineno) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def imports_of(path: Path, tree: ast.AST | None = None) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text()) if tree is None else tree
    return list(imports(tree, name_of(path), is_package=path.name == "__init__.py"))


def target_part(imported: str) -> str | None:
    """Give the part of triode that an import reaches, or None where it reaches another package."""
    if imported.split(".")[0] != "triode":
        return None
    reached = part_of(imported)
    inside = (PACKAGE / reached).is_dir() or (PACKAGE / f"{reached}.py").is_file()
    return reached if inside else "triode"  # `from triode import encode` reaches the API itself


def forbidden_imports(path: Path) -> list[str]:
    part = part_of(name_of(path))
    assert part in ALLOWED, f"{part} has no place in the import order: give it one in {Path(__file__).name}"
    allowed = {part, *EVERYONE, *ALLOWED[part]}
    return [
        f"{path.name}:{line} {part} imports {imported}"
        for imported, line in imports_of(path)
        if (reached := target_part(imported)) is not None and reached not in allowed
    ]


def eager(tree: ast.Module) -> ast.Module:
    """Keep the statements that run when the module is imported: no function bodies, no `if TYPE_CHECKING` blocks."""

    class Pruned(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

        def visit_If(self, node: ast.If) -> ast.AST:
            if ast.unparse(node.test).endswith("TYPE_CHECKING"):
                node.body = [ast.Pass()]
            return self.generic_visit(node)

    return Pruned().visit(tree)


def eager_extras(path: Path) -> list[str]:
    allowed = EAGER.get(part_of(name_of(path)), set())
    if allowed is None:
        return []
    known = {*sys.stdlib_module_names, *CORE, *allowed, "triode"}
    found = imports_of(path, eager(ast.parse(path.read_text())))
    return [f"{path.name}:{line} imports {name}" for name, line in found if name.split(".")[0] not in known]


def unsafe_uses(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found = [
        f"{path.name}:{line} imports {name}" for name, line in imports_of(path, tree) if name.split(".")[0] in UNSAFE
    ]
    torch_names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "torch"
    }
    found += [f"{path.name}:{line} imports {name}" for name, line in imports_of(path, tree) if name == "torch.load"]
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr="load") if owner in torch_names:
                found.append(f"{path.name}:{node.lineno} uses torch.load")
            case ast.keyword(arg="allow_pickle"):
                found.append(f"{path.name}:{node.value.lineno} passes allow_pickle")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
class TestModule:
    def test_imports_point_one_way(self, path: Path) -> None:
        assert forbidden_imports(path) == []

    def test_optional_packages_are_imported_lazily(self, path: Path) -> None:
        assert eager_extras(path) == []

    def test_runs_no_code_from_files(self, path: Path) -> None:
        assert unsafe_uses(path) == []

    def test_is_short_and_says_what_it_is(self, path: Path) -> None:
        source = path.read_text()
        assert source.count("\n") <= MAX_LINES, f"{path.name} is longer than {MAX_LINES} lines: split it"
        assert not source.strip() or ast.get_docstring(ast.parse(source)), f"{path.name} has no docstring"


@pytest.mark.parametrize("path", sorted((PACKAGE / "container").rglob("*.py")), ids=name_of)
def test_container_needs_the_standard_library_only(path: Path) -> None:
    outside = {name for name, _ in imports_of(path) if name.split(".")[0] not in {*sys.stdlib_module_names, "triode"}}
    assert outside == set()


@pytest.mark.parametrize("module", ["triode", "triode.container", "triode.cli.main"])
def test_import_loads_neither_torch_nor_numpy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'numpy', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


class TestChecks:
    """The checks themselves see what they are for."""

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "triode" / "entropy" / "sample.py"
        path.parent.mkdir(parents=True)
        for part in ("container", "models"):
            (tmp_path / "triode" / part).mkdir()
        (tmp_path / "triode" / "errors.py").touch()
        monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
        monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "triode")
        return path

    @pytest.mark.parametrize(
        "line",
        [
            "import triode.models.layers",
            "from triode.models import layers",
            "from triode import models",
            "from ..models import layers",
            "from triode import encode",
            "def f():\n    from triode.models import layers",
            "import importlib\nimportlib.import_module('triode.models.layers')",
        ],
    )
    def test_direction(self, module: Path, line: str) -> None:
        module.write_text(line)
        assert len(forbidden_imports(module)) == 1
        module.write_text(
            "from triode.container import chunks\nfrom triode.errors import CodecError\nfrom . import coder"
        )
        assert forbidden_imports(module) == []

    def test_lazy(self, module: Path) -> None:
        module.write_text(
            "try:\n    import matplotlib\nexcept ImportError:\n    pass\nclass A:\n    import scipy.stats"
        )
        assert len(eager_extras(module)) == 2
        module.write_text("def f():\n    import matplotlib\nif TYPE_CHECKING:\n    import scipy\nimport torch")
        assert eager_extras(module) == []

    @pytest.mark.parametrize(
        "line",
        [
            "import pickle",
            "import torch as t\nt.load('x')",
            "from torch import load",
            "np.load('x', allow_pickle=True)",
        ],
    )
    def test_unsafe(self, module: Path, line: str) -> None:
        module.write_text(line)
        assert len(unsafe_uses(module)) == 1
        module.write_text("import torch\nimport safetensors.torch\nsafetensors.torch.load(b'')\nmodel.load('x')")
        assert unsafe_uses(module) == []
