"""Check the object files of csrc/kernels/cpu/isa_*.cpp: nothing global but their one table.

A kernel's object file is compiled for one instruction set. A weak or unique symbol in it (an
inline function or a template of the standard library) may be the copy that the linker keeps for
the whole library, and would crash a machine that lacks those instructions. So: one global symbol,
the table; none weak; and from outside only what libc and libm compile for every machine.

Usage: check_symbols.py OBJECT...
"""

import re
import subprocess
import sys

TABLE = re.compile(r"^_ZN3zoo\d+k\w+TableE$")
LIBRARY = {"memcpy", "memmove", "memset", "exp", "erfc", "tanh", "_GLOBAL_OFFSET_TABLE_"}


def problems(path: str) -> list[str]:
    """Return what is wrong with the symbols of one object file."""
    listing = subprocess.run(
        ["nm", "--format=posix", path], check=True, capture_output=True, text=True
    ).stdout
    symbols = [line.split()[:2] for line in listing.splitlines()]
    found = []
    tables = 0
    for name, kind in symbols:
        if kind == "U":
            if name not in LIBRARY:
                found.append(f"{name} is taken from outside")
        elif kind in "wWvVu":
            found.append(f"{name} is weak or unique ({kind})")
        elif kind.isupper():
            tables += TABLE.match(name) is not None
            if not TABLE.match(name):
                found.append(f"{name} is global ({kind})")
    if tables != 1:
        found.append(f"{tables} tables instead of one")
    return found


def main() -> int:
    """Check every object file named on the command line."""
    if len(sys.argv) < 2:
        print("Usage: check_symbols.py OBJECT...", file=sys.stderr)
        return 2
    failed = False
    for path in sys.argv[1:]:
        for problem in problems(path):
            print(f"{path}: {problem}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
