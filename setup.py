"""Builds ``zoo._C``: the CPU kernels, one object file per instruction set, and the ops on them.

Everything else about the distribution is in pyproject.toml, but for its dependencies: what is
compiled here runs with this minor version of torch only (docs/adr/0004-abi.md), and says so. Object
files are kept under build/, so that building again compiles only what changed. MAX_JOBS limits the
compilers run at once.

ZOO_CUDA says whether the CUDA kernels and their ops are built too: 0, 1 or auto (docs/cuda.md).
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, library_paths

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
KERNELS = CSRC / "kernels"
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

# Where TORCH_CUDA_ARCH_LIST, PyTorch's variable, names no others: Turing to consumer Blackwell,
# and PTX for what comes after.
CUDA_ARCHS = "7.5 8.0 8.6 9.0 10.0 12.0+PTX"


def isa_flags() -> dict[str, list[str]]:
    """The instruction sets to build, each with the compiler flags of its one source file."""
    flags: dict[str, list[str]] = json.loads((KERNELS / "cpu" / "isa_flags.json").read_text())
    return flags if ON_X86_64 else {"scalar": flags["scalar"]}


# --- CUDA ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nvcc:
    """The CUDA compiler and its release: "13.0"."""

    path: str
    release: str


def find_nvcc() -> Nvcc | None:
    """The nvcc of CUDA_HOME, where that is set, or the one on PATH, or the usual place's."""
    home = os.environ.get("CUDA_HOME")
    places = [os.path.join(home, "bin")] if home else [None, "/usr/local/cuda/bin"]
    found = next(filter(None, (shutil.which("nvcc", path=place) for place in places)), None)
    if found is None:
        return None
    text = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+\.\d+)", text)
    return Nvcc(found, release[1]) if release else None


def cuda_compiler(wish: str, nvcc: Nvcc | None, torch_cuda: str | None, device: bool) -> str | None:
    """The nvcc to build the CUDA side with, or None where it is not to be built.

    ``wish`` is ZOO_CUDA, ``torch_cuda`` the release that torch was built with, and ``device``
    whether this machine has one.

    Raises:
        SystemExit: an unknown wish, or one that cannot be granted; one line.
    """
    if wish not in ("0", "1", "auto"):
        raise SystemExit(f"ZOO_CUDA={wish} is not known; set it to 0, 1 or auto (the default)")
    if wish == "0" or (wish == "auto" and not device):
        return None
    problem = None
    if torch_cuda is None:
        problem = "this torch was built without CUDA; install one that has it"
    elif nvcc is None:
        problem = f"there is no nvcc in CUDA_HOME/bin or on PATH; install that of CUDA {torch_cuda}"
    elif nvcc.release != torch_cuda:
        problem = (
            f"{nvcc.path} is of CUDA {nvcc.release}, but torch of {torch_cuda}; set CUDA_HOME to "
            f"a CUDA {torch_cuda}"
        )
    if problem is None and nvcc is not None:
        return nvcc.path
    if wish == "1":
        raise SystemExit(f"ZOO_CUDA=1 cannot be: {problem}, or set ZOO_CUDA=0")
    print(f"zoo is built without CUDA kernels: {problem}", file=sys.stderr)
    return None


def arch_flags(archs: str) -> list[str]:
    """nvcc's flags for a TORCH_CUDA_ARCH_LIST: numbers like 8.0 or 9.0+PTX, apart by ; or blanks.

    Raises:
        SystemExit: something else is in it.
    """
    flags = []
    for arch in re.split(r"[;\s]+", archs.strip("; \t\n")):
        parts = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", arch)
        if parts is None:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: {arch!r} is not a number like 8.0 or 9.0+PTX")
        number = parts[1] + parts[2]
        flags += ["-gencode", f"arch=compute_{number},code=sm_{number}"]
        if parts[3]:
            flags += ["-gencode", f"arch=compute_{number},code=compute_{number}"]
    return flags


def toolkit_includes(nvcc: str) -> list[str]:
    """The folders in which nvcc itself looks for CUDA's headers."""
    command = [nvcc, "--dryrun", "-c", "-x", "cu", os.devnull]
    steps = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"^#\$ INCLUDES=(.*)$", steps, flags=re.MULTILINE)
    flags = shlex.split(found[1]) if found else []
    return [flag.removeprefix("-I") for flag in flags]


def cuda_files(pattern: str) -> list[str]:
    """What matches below the folders of NVIDIA's packages, which torch's wheels bring."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec is not None else None
    return [str(path) for folder in folders or [] for path in sorted(Path(folder).glob(pattern))]


def add_cuda(extension: Extension, nvcc: str, archs: str) -> None:
    """Let the extension have the ops of csrc/ops/cuda.

    torch's headers take CUDA's, of which its wheels bring all but a few: those are nvcc's.
    """
    extension.sources += sources(CSRC.glob("ops/cuda/*.cpp"))
    extension.define_macros += [
        ("ZOO_CUDA", json.dumps(torch.version.cuda)),
        ("ZOO_CUDA_ARCHS", json.dumps(" ".join(re.split(r"[;\s]+", archs.strip())))),
    ]
    extension.libraries.append("c10_cuda")
    extension.include_dirs += [*toolkit_includes(nvcc), *cuda_files("*/include")]
    runtime = cuda_files(f"*/lib/libcudart.so.{torch.version.cuda.split('.')[0]}*")
    if runtime:
        extension.extra_objects.append(runtime[0])
    else:  # a torch that is no wheel uses a toolkit's
        extension.library_dirs += library_paths(device_type="cuda")
        extension.libraries.append("cudart")


# --- the build -----------------------------------------------------------------------------------


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
        nvcc = cuda_compiler(
            os.environ.get("ZOO_CUDA") or "auto",
            find_nvcc(),
            torch.version.cuda,
            torch.cuda.is_available(),
        )
        archs = os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHS
        if nvcc is not None:
            self.build_temp += "-cuda"
        archive = build_kernels(Path(self.build_temp) / "kernels", nvcc, archs)
        for extension in self.extensions:
            extension.extra_objects.append(str(archive))
            extension.depends.append(str(archive))
            if nvcc is not None:
                add_cuda(extension, nvcc, archs)
        super().build_extensions()


def build_kernels(folder: Path, nvcc: str | None, archs: str) -> Path:
    """Compile csrc/kernels into an archive in ``folder`` and return its path.

    Without ``nvcc`` only what needs none; ``archs`` is what it compiles for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = sorted([*KERNELS.glob("*.cpp"), *KERNELS.glob("cuda/*.cpp")])
    units = sorted(KERNELS.glob("cuda/*.cu"))
    jobs = [("compile", source, []) for source in plain]
    jobs += [
        ("compile", KERNELS / "cpu" / f"isa_{name}.cpp", flags)
        for name, flags in isa_flags().items()
    ]
    if nvcc is not None:
        jobs += [("cuda", source, arch_flags(archs)) for source in units]
    archive = folder / "libzoo_kernels.a"
    flags = shlex.join(["-std=c++17", "-fPIC", *FLAGS])
    of_host = ",".join(["-fPIC", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra"])
    lines = [
        "ninja_required_version = 1.5",
        f"cxx = {os.environ.get('CXX', 'c++')}",
        f"ar = {os.environ.get('AR', 'ar')}",
        f"nvcc = {shlex.quote(nvcc or 'nvcc')}",
        "rule compile",
        f"  command = $cxx {flags} $own -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule cuda",
        f"  command = $nvcc -std=c++17 -O3 -Xcompiler {of_host} $own -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule archive",
        "  command = rm -f $out && $ar rcs $out $in",
    ]
    objects = []
    for rule, source, own in jobs:
        objects.append(f"{source.name}.o")
        lines.append(f"build {objects[-1]}: {rule} {ninja_path(source)}")
        lines.append(f"  own = {shlex.join(own)}")
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


def sources(paths: Iterable[Path]) -> list[str]:
    """The paths as setuptools wants them: sorted, and relative to this file."""
    return sorted(str(path.relative_to(ROOT)) for path in paths)


if __name__ == "__main__":
    setup(
        install_requires=DEPENDENCIES,
        ext_modules=[
            CppExtension(
                "zoo._C",
                sources=sources(
                    path
                    for pattern in ("*.cpp", "ops/**/*.cpp", "plan/*.cpp")
                    for path in CSRC.glob(pattern)
                    if path.parent != CSRC / "ops" / "cuda"
                ),
                include_dirs=[str(CSRC)],
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
