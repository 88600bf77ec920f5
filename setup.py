"""Builds ``zoo._C``: the CPU kernels, one object file per instruction set, and the ops on them.

Everything else about the distribution is in pyproject.toml, but for its dependencies: what is
compiled here runs with this minor version of torch only (docs/adr/0004-abi.md), and says so. Object
files are kept under build/, so that building again compiles only what changed. MAX_JOBS limits the
compilers run at once.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

ROOT = Path(__file__).resolve().parent
KERNELS = ROOT / "csrc" / "kernels"
ON_X86_64 = platform.machine().lower() in ("x86_64", "amd64")

TORCH_MINOR = ".".join(torch.__version__.split(".")[:2])
DEPENDENCIES = [
    "torch>=2.13" if "sdist" in sys.argv else f"torch=={TORCH_MINOR}.*",
    "torchvision>=0.28",
    "pluggy>=1.5,<2",
    "click>=8.1,<9",
    "numpy>=1.26",
    "pillow>=10",
    "safetensors>=0.4.3",
]

# No fast-math: NaN and Inf mean here what they mean in PyTorch. Names are hidden, so that nothing
# of ours can stand in for another library's symbols.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra"]


def isa_flags() -> dict[str, list[str]]:
    """The instruction sets to build, each with the compiler flags of its one source file."""
    flags: dict[str, list[str]] = json.loads((KERNELS / "cpu" / "isa_flags.json").read_text())
    return flags if ON_X86_64 else {"scalar": flags["scalar"]}


class Build(BuildExtension):
    """torch's build, preceded by the kernels, which see neither torch nor Python.

    torch's builder gives all sources of an extension the same flags. The kernels need flags of
    their own, so a ninja file of ours makes an archive of them, which the extension then links.
    """

    def finalize_options(self) -> None:
        """Keep object files apart by platform, Python and torch."""
        super().finalize_options()
        tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}-torch{torch.__version__}"
        self.build_temp = str(ROOT / "build" / tag)

    def build_extensions(self) -> None:
        """Build the kernels, then the extension around them."""
        archive = build_kernels(Path(self.build_temp) / "kernels")
        for extension in self.extensions:
            extension.extra_objects.append(str(archive))
            extension.depends.append(str(archive))
        super().build_extensions()


def build_kernels(folder: Path) -> Path:
    """Compile csrc/kernels into an archive in ``folder`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(source, []) for source in sorted(KERNELS.glob("*.cpp"))]
    jobs += [(KERNELS / "cpu" / f"isa_{name}.cpp", flags) for name, flags in isa_flags().items()]
    archive = folder / "libzoo_kernels.a"
    flags = shlex.join(["-std=c++17", "-fPIC", *FLAGS])
    lines = [
        "ninja_required_version = 1.5",
        f"cxx = {os.environ.get('CXX', 'c++')}",
        f"ar = {os.environ.get('AR', 'ar')}",
        "rule compile",
        f"  command = $cxx {flags} $isa -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule archive",
        "  command = rm -f $out && $ar rcs $out $in",
    ]
    objects = []
    for source, isa in jobs:
        objects.append(f"{source.stem}.o")
        lines.append(f"build {objects[-1]}: compile {ninja_path(source)}")
        lines.append(f"  isa = {shlex.join(isa)}")
    lines.append(f"build {archive.name}: archive {' '.join(objects)}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")

    command = [sys.executable, "-m", "ninja", "-C", str(folder)]
    if "MAX_JOBS" in os.environ:
        command += ["-j", os.environ["MAX_JOBS"]]
    subprocess.run(command, check=True)
    return archive


def ninja_path(path: Path) -> str:
    """``path`` as ninja wants it written."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


setup(
    install_requires=DEPENDENCIES,
    ext_modules=[
        CppExtension(
            "zoo._C",
            sources=sorted(
                str(path.relative_to(ROOT))
                for path in [
                    ROOT / "csrc" / "module.cpp",
                    ROOT / "csrc" / "schema.cpp",
                    *(ROOT / "csrc" / "ops").rglob("*.cpp"),
                    *(ROOT / "csrc" / "plan").glob("*.cpp"),
                ]
            ),
            include_dirs=[str(ROOT / "csrc")],
            define_macros=[
                ("ZOO_BUILD_FLAGS", json.dumps(" ".join(FLAGS))),
                ("ZOO_BUILD_ISAS", json.dumps(" ".join(isa_flags()))),
            ],
            # at::parallel_for is header code: without -fopenmp it runs on one thread.
            extra_compile_args=[*FLAGS, "-Wno-unused-parameter", "-fopenmp"],
            extra_link_args=["-fopenmp", "-Wl,--exclude-libs,ALL"],
        )
    ],
    cmdclass={"build_ext": Build},
)
