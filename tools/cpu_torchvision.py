"""Make CUDA-linked torchvision and torchaudio wheels importable beside a CPU build of torch.

The wheels on the package index name the CUDA libraries as needed, although their CPU kernels call nothing in them.
Beside a CPU build of torch the loader therefore refuses their extension modules, and with them `import torchvision`,
`import torchaudio`, CompressAI, and Lightning's Trainer. This script compiles stand-ins: shared libraries of the names
that the loader asks for, holding exactly the symbols that nothing else provides. A `.pth` file preloads them when
Python starts, and every CPU kernel works. With a CUDA build of torch, or wheels built for the CPU, nothing is done.

Run it once after pip, with the interpreter of the environment to mend: `python tools/cpu_torchvision.py`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("torchvision", "torchaudio")
FOLDER = "_cuda_stand_ins"
CUDA_LIBRARY = re.compile(rb"\0(libtorch_cuda\.so|libc10_cuda\.so|libcudart\.so\.\d+)(?=\0)")

PRELOAD = '''"""Preloads empty CUDA libraries for torchvision and torchaudio beside a CPU build of torch."""
import ctypes
import pathlib

_here = pathlib.Path(__file__).parent
if not (_here.parent / "torch" / "lib" / "libtorch_cuda.so").exists():
    for _name in {names!r}:
        try:
            ctypes.CDLL(str(_here / _name))
        except OSError:
            pass
'''

REFUSAL = """#include <stdio.h>
#include <stdlib.h>
static void refuse(const char *name) {
    fprintf(stderr, "CUDA function %s was called, but this torch is built for the CPU\\n", name);
    abort();
}
"""


def extensions(site: Path) -> dict[Path, set[str]]:
    """Find the extension modules that need a CUDA library, and the names of the libraries each needs."""
    found = {}
    for package in PACKAGES:
        for path in sorted((site / package).rglob("*.so")):
            needed = {match.decode() for match in CUDA_LIBRARY.findall(path.read_bytes())}
            if needed:
                found[path] = needed
    return found


def symbols(path: Path, *, defined: bool) -> set[str]:
    """List the dynamic symbols that a library defines or strongly needs, as `name` or `name@VERSION`."""
    flag = "--defined-only" if defined else "--undefined-only"
    listing = subprocess.run(["nm", "-D", flag, path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {row[-1].replace("@@", "@") for row in rows if len(row) >= 2 and (defined or row[-2] == "U")}


def demangled(names: Iterable[str]) -> dict[str, str]:
    """Give each symbol the C++ declaration that it stands for; a C symbol stands for itself."""
    names = list(names)
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, plain.splitlines(), strict=True))


def missing_symbols(site: Path, modules: Iterable[Path]) -> tuple[dict[str, str], set[str]]:
    """Collect what the modules need and nothing installed provides.

    Returns:
        The CUDA run-time functions with the version tag of each, and the symbols of torch's own CUDA libraries.
    """
    providers = [*(site / "torch" / "lib").glob("*.so*")]
    for package in PACKAGES:
        providers += [*(site / f"{package}.libs").glob("*.so*"), *(site / package).rglob("*.so")]
    provided = {name.partition("@")[0] for path in providers for name in symbols(path, defined=True)}
    interpreter = ctypes.CDLL(None)
    runtime: dict[str, str] = {}
    torch_cuda: set[str] = set()
    for symbol in sorted(set().union(*(symbols(path, defined=False) for path in modules))):
        name, _, version = symbol.partition("@")
        if version.startswith("libcudart"):
            runtime[name] = version
        elif not version and name not in provided and not hasattr(interpreter, name):
            torch_cuda.add(name)
    return runtime, torch_cuda


def runtime_source(names: Iterable[str]) -> str:
    """Write C for the CUDA run time: registering kernels succeeds, every other call reports that there is no device."""
    no_device = 100  # cudaErrorNoDevice
    return "".join(f"int {name}(void) {{ return {0 if name.startswith('__') else no_device}; }}\n" for name in names)


def torch_source(names: Iterable[str]) -> str:
    """Write C for torch's CUDA libraries: variables and vtables are zero, a function says its name and aborts."""
    lines = [REFUSAL]
    for name, declaration in demangled(names).items():
        if name != declaration and "(" not in declaration:  # only functions have a parameter list
            lines.append(f"char {name}[512] __attribute__((aligned(16)));\n")
        else:
            lines.append(f'void {name}(void) {{ refuse("{name}"); }}\n')
    return "".join(lines)


def compile_library(compiler: str, folder: Path, soname: str, source: str, version: str | None = None) -> None:
    """Compile C source to `folder/soname`; with a version, tag every symbol with it."""
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch, "stand_in.c")
        code.write_text(source)
        options = ["-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{soname}"]
        if version:
            version_map = Path(scratch, "version.map")
            version_map.write_text(f"{version} {{ global: *; }};\n")
            options.append(f"-Wl,--version-script={version_map}")
        subprocess.run([compiler, *options, "-o", folder / soname, code], check=True)


def install(site: Path, modules: dict[Path, set[str]], compiler: str) -> str:
    """Build the stand-ins and the file that preloads them; return a one-line summary."""
    runtime, torch_cuda = missing_symbols(site, modules)
    libraries = sorted(set().union(*modules.values()), key=lambda name: ("torch_cuda" in name, name))
    folder = site / FOLDER
    folder.mkdir(exist_ok=True)
    for soname in libraries:
        if soname.startswith("libcudart"):
            compile_library(compiler, folder, soname, runtime_source(runtime), next(iter(runtime.values()), None))
        else:
            compile_library(compiler, folder, soname, torch_source(torch_cuda if "torch_cuda" in soname else ()))
    (folder / "__init__.py").write_text(PRELOAD.format(names=libraries))
    (site / f"{FOLDER}.pth").write_text(f"import {FOLDER}\n")
    return (
        f"{len(libraries)} stand-ins with {len(runtime) + len(torch_cuda)} symbols for {len(modules)} extension modules"
    )


def main() -> int:
    """Look at the environment, mend it where that is needed, and check that the packages import."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        print("cpu_torchvision: torch is not installed here: nothing to do")
        return 0
    if (Path(torch.origin).parent / "lib" / "libtorch_cuda.so").exists():
        print("cpu_torchvision: torch is a CUDA build: nothing to do")
        return 0
    site = Path(sysconfig.get_paths()["platlib"])
    modules = extensions(site)
    if not modules:
        print("cpu_torchvision: no CUDA-linked torchvision or torchaudio: nothing to do")
        return 0
    compiler = shutil.which("gcc") or shutil.which("cc")
    absent = [tool for tool in ("nm", "c++filt") if shutil.which(tool) is None] + ([] if compiler else ["gcc"])
    if compiler is None or absent:
        print(
            f"cpu_torchvision: not found: {', '.join(absent)}. torch is a CPU build and torchvision or torchaudio"
            " is linked to CUDA, so stand-in libraries must be compiled: install gcc and binutils, or install wheels"
            " that are built for the CPU.",
            file=sys.stderr,
        )
        return 1
    print(f"cpu_torchvision: {install(site, modules, compiler)}")
    present = [package for package in PACKAGES if importlib.util.find_spec(package)]
    return subprocess.run([sys.executable, "-c", f"import {', '.join(present)}"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
