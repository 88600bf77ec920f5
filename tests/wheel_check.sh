#!/bin/sh
# The wheels in dist/ in a new environment, with nothing but that environment on PATH: no compiler.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
env=$(mktemp -d)
rm=$(command -v rm) # PATH is cut down below
trap '"$rm" -rf "$env"' EXIT
python3 -m venv "$env/venv"
"$env/venv/bin/python" -m pip install -q --disable-pip-version-check -c "$root/constraints.txt" \
    --find-links "$root/dist" "zoo-vision[demo]" zoo-timm zoo-efficientnet-lite
cd "$env"
export PATH="$env/venv/bin" HOME="$env"
images=$(python -c 'import sklearn, pathlib; print(pathlib.Path(sklearn.__file__).parent / "datasets/images")')
python -c 'import zoo, torch
x = torch.randn(2, 3, 32, 32)
w = torch.randn(8, 3, 3, 3)
torch.testing.assert_close(zoo.ops.conv2d(x, w), torch.nn.functional.conv2d(x, w))
print("cpu capability:", zoo.ops.cpu_capability())'
zoo list-models --limit 3
zoo predict --model efficientnet-lite/efficientnet_lite0 --topk 1 "$images"
zoo bench --op conv2d --shape 1,16,16,16,16,3,1,1 --threads 1
echo "wheel check passed"
